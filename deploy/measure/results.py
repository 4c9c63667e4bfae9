"""The table of results: a row a campaign, group of customers and metric (docs/tables.md)."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deploy.measure import outcomes as o
from deploy.measure.campaigns import Campaign
from deploy.measure.metrics import BY_NAME, DESCRIBED, METRICS, SMALLEST_ARM, Column, Metric
from deploy.measure.observed import SEGMENT, Observed
from recsys.effects.effect import LEVEL, Effect
from recsys.effects.power import adjusted, seen
from recsys.segments import ACTIVITIES, ACTIVITY

CAMPAIGN_RESULTS = "campaign_results"
ALL = "all"
BETTER, WORSE, NOT_SEEN, VOID, DESCRIPTIVE = "better", "worse", "not seen", "void", "descriptive"


@dataclass(frozen=True)
class Result:
    """One row of the results.

    Attributes:
        strategy: name of the strategy.
        model_name: of the release that scored.
        model_version: of the release that scored.
        recommendations_commit: number of the commit whose audience was followed.
        start: first day of the window.
        window_days: length of the window.
        days: days of it that the interactions hold; fewer where they end before it.
        segment_by: `all`, `activity`, or a column of the customers table.
        segment: the group.
        metric: name of the metric.
        method: CUPED, Welch, delta method or two proportions; null where nothing was computed.
        treatment_customers: customers of the arm who count for the metric.
        control_customers: likewise.
        treatment: the arm's mean, ratio or share; under CUPED adjusted.
        control: likewise; null where there is none.
        difference: treatment − control.
        low: lower end of its 95 % interval.
        high: upper end.
        relative: difference as a share of control.
        relative_low: lower end of its 95 % interval.
        relative_high: upper end.
        p_value: two-sided, of no difference.
        p_adjusted: of a group, by Holm over the groups of the same column and metric.
        variance_reduction: share of the variance that CUPED took away.
        detectable: smallest true difference that the test would have found in 80 of 100 cases.
        verdict: better, worse, not seen, void, or descriptive.
        void_reason: why there is no effect; null where there is one.
    """

    strategy: str
    model_name: str
    model_version: int
    recommendations_commit: int
    start: date
    window_days: int
    days: int
    segment_by: str
    segment: str
    metric: str
    method: str | None = None
    treatment_customers: int = 0
    control_customers: int = 0
    treatment: float | None = None
    control: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    variance_reduction: float | None = None
    detectable: float | None = None
    verdict: str = VOID
    void_reason: str | None = None

    @property
    def relative_detectable(self) -> float | None:
        """`detectable` as a share of control."""
        if self.detectable is None or not self.control or self.control < 0:
            return None
        return self.detectable / self.control


_TYPES = {
    "model_version": pa.int32(),
    "recommendations_commit": pa.int32(),
    "start": pa.date32(),
    "window_days": pa.int32(),
    "days": pa.int32(),
    "treatment_customers": pa.int64(),
    "control_customers": pa.int64(),
}
_NUMBERS = [f.name for f in fields(Result) if f.type == float | None]
SCHEMA = pa.schema(
    [
        pa.field(f.name, pa.float64() if f.name in _NUMBERS else _TYPES.get(f.name, pa.string()),
                 nullable=f.type in (float | None, str | None))
        for f in fields(Result)
    ]
)  # fmt: skip


def as_table(rows: Sequence[Result]) -> pa.Table:
    """Return results as a table of `SCHEMA`."""
    return pa.Table.from_pylist([asdict(row) for row in rows], SCHEMA)


def results(
    campaign: Campaign, days: int, seen_in: Observed, void_reason: str | None
) -> list[Result]:
    """Compare the arms by every metric, over all customers and in each group.

    Args:
        campaign: what was published.
        days: days of the window that the interactions hold.
        seen_in: what its customers did.
        void_reason: why no effect can be told; None where one can.
    """
    rows = []
    for by, label, members in groups(seen_in):
        of = _columns(seen_in, members)
        blank = Result(
            campaign.strategy,
            str(campaign.facts["model_name"]),
            int(campaign.facts["model_version"]),
            campaign.commit,
            campaign.start,
            campaign.window_days,
            days,
            by,
            label,
            "",
        )
        rows += [_result(blank, metric, of, void_reason) for metric in METRICS]
        rows += [_described(blank, name, of) for name in DESCRIBED]
    return [_decided(row) for row in _with_adjusted(rows)]


def groups(seen_in: Observed) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield (column, group, members bool [customers]): everyone first, then group by group."""
    yield ALL, ALL, np.ones(len(seen_in.table), dtype=bool)
    prefix = SEGMENT.format("")
    for name in seen_in.table.column_names:
        if name.startswith(prefix):
            labels = np.asarray(seen_in.table[name].to_pylist(), dtype=str)
            by = name.removeprefix(prefix)
            for label in ACTIVITIES if by == ACTIVITY else np.unique(labels):
                members = labels == label
                if members.any():
                    yield by, str(label), members


def _columns(seen_in: Observed, members: NDArray[np.bool_]) -> Column:
    return lambda name: seen_in.values(name)[members]


def _result(blank: Result, metric: Metric, of: Column, void_reason: str | None) -> Result:
    """Compare the arms by one metric, or say why not."""
    counts = metric.counts(of)

    def column(name: str) -> NDArray[np.float64]:
        return of(name)[counts]

    treated = np.asarray(column(o.TREATED), dtype=bool)
    arms = int(treated.sum()), int((~treated).sum())
    row = replace(blank, metric=metric.name, treatment_customers=arms[0], control_customers=arms[1])
    void_reason = void_reason or _too_few(metric.weighs(column), treated)
    if void_reason is not None:
        return replace(row, void_reason=void_reason)
    return _filled(row, metric.estimate(column, treated))


def _too_few(weighs: NDArray[np.bool_], treated: NDArray[np.bool_]) -> str | None:
    """Say that an arm has too few customers, or too few who make the number; None if not."""
    arms = {"treatment": treated, "control": ~treated}
    smaller = min(arms, key=lambda arm: int(arms[arm].sum()))
    if (customers := int(arms[smaller].sum())) < SMALLEST_ARM:
        return f"too few customers: {customers} in the {smaller} arm, {SMALLEST_ARM} are needed"
    fewer = min(arms, key=lambda arm: int((weighs & arms[arm]).sum()))
    if (ordered := int((weighs & arms[fewer]).sum())) < SMALLEST_ARM:
        return (
            f"only {ordered} customers of the {fewer} arm ordered in the window, {SMALLEST_ARM} "
            "are needed for an interval that holds"
        )
    return None


def _filled(row: Result, effect: Effect) -> Result:
    return replace(
        row,
        method=effect.method,
        treatment=effect.treatment,
        control=effect.control,
        difference=effect.difference,
        low=effect.low,
        high=effect.high,
        relative=_finite(effect.relative),
        relative_low=_finite(effect.relative_low),
        relative_high=_finite(effect.relative_high),
        p_value=effect.p_value,
        p_adjusted=effect.p_value,
        variance_reduction=effect.variance_reduction,
        detectable=seen(effect),
    )


def _finite(value: float | None) -> float | None:
    """Leave out a share of a control that is 0."""
    return value if value is not None and np.isfinite(value) else None


def _described(blank: Result, name: str, of: Column) -> Result:
    """Tell a number of the treated alone; their lists exist also where no effect can be told."""
    treated = np.asarray(of(o.TREATED), dtype=bool)
    values = of(DESCRIBED[name][2])[treated]
    return replace(
        blank,
        metric=name,
        treatment_customers=len(values),
        control_customers=int((~treated).sum()),
        treatment=float(values.mean()) if len(values) else None,
        verdict=DESCRIPTIVE,
        void_reason="the control arm has no list to compare with",
    )


def _with_adjusted(rows: list[Result]) -> list[Result]:
    """Judge the groups of one column and metric together (Holm 1979); all customers stand alone."""
    families: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        if row.p_value is not None and row.segment_by != ALL:
            families.setdefault((row.segment_by, row.metric), []).append(place)
    rows = list(rows)
    for places in families.values():
        p_values = [p for place in places if (p := rows[place].p_value) is not None]
        for place, p_value in zip(places, adjusted(p_values), strict=True):
            rows[place] = replace(rows[place], p_adjusted=p_value)
    return rows


def _decided(row: Result) -> Result:
    """Add the verdict: for all customers the interval decides, for a group the adjusted p-value."""
    if row.difference is None or row.low is None or row.high is None or row.p_adjusted is None:
        return row
    outside = row.low > 0 or row.high < 0
    if not outside or (row.segment_by != ALL and row.p_adjusted >= 1 - LEVEL):
        return replace(row, verdict=NOT_SEEN)
    welcome = (row.difference > 0) == (BY_NAME[row.metric].better == "more")
    return replace(row, verdict=BETTER if welcome else WORSE)
