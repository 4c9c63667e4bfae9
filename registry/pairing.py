"""Pair challengers with the champion: evidence from the hit tables that runs logged."""

from collections.abc import Sequence

import pyarrow as pa

from recsys import comparison, hit_table
from recsys.comparison import Difference
from recsys.data.dataset import Dataset
from recsys.errors import UsageError
from recsys.hit_table import CAMPAIGN, QUESTIONS
from recsys.metrics.beyond_accuracy import CATALOGUE_METRICS
from recsys.segments import segments
from registry.evidence import Entrant, HitTables
from registry.policy import Pairing

CATALOGUE = [f"{name}_at_{hit_table.K}" for name in CATALOGUE_METRICS]


def split_metric(metric: str) -> tuple[str, str]:
    """Split `replenish/ndcg_at_10` into question and metric; discover where none is named."""
    question, _, name = metric.rpartition("/")
    known = (*QUESTIONS, CAMPAIGN)
    if question and question not in known:
        raise UsageError(f"metric={metric}: the question must be one of {', '.join(known)}.")
    if name in CATALOGUE:
        raise UsageError(
            f"metric={metric} describes all lists together: choose one that is judged a customer."
        )
    return question or "discover", name


def pair_all(
    champion: Entrant,
    taking_part: Sequence[Entrant],
    dataset: Dataset,
    metric: str,
    columns: Sequence[str],
    tables: HitTables,
) -> list[Pairing]:
    """Pair every other run with the champion.

    Args:
        champion: the run to beat.
        taking_part: all runs, in the order that the pairings shall have.
        dataset: that all were judged on.
        metric: that decides.
        columns: of the customers or items table, whose groups are compared beside activity.
        tables: where the runs' hit tables come from.

    Raises:
        DataError: tables are missing, or their customers differ.
    """
    popular = best_popularity(taking_part, metric)
    return [
        _pair(champion, challenger, popular, dataset, metric, columns, tables)
        for challenger in taking_part
        if challenger.run_id != champion.run_id
    ]


def on_validation(entrant: Entrant, metric: str) -> tuple[float, int]:
    """Return what orders runs: the metric on validation, then the newer run."""
    return entrant.metrics[f"validation/{metric}"], entrant.started


def best_popularity(taking_part: Sequence[Entrant], metric: str) -> Entrant | None:
    """Return the popularity run that is best on validation, None where there is none."""
    popular = [e for e in taking_part if e.algorithm == "popularity"]
    return max(popular, key=lambda e: on_validation(e, metric), default=None)


def _pair(
    champion: Entrant,
    challenger: Entrant,
    popular: Entrant | None,
    dataset: Dataset,
    metric: str,
    columns: Sequence[str],
    tables: HitTables,
) -> Pairing:
    question, name = split_metric(metric)
    metrics = {
        hit_table.metric_name(asked, measured): difference
        for asked in dict.fromkeys((*QUESTIONS, question))
        for measured, difference in _all_metrics(
            *_rows(champion, challenger, "test", asked, tables), dataset.test.history.items
        ).items()
    }
    left, right = _rows(champion, challenger, "test", question, tables)
    groups = segments(left, dataset.folder, columns)
    windows = {
        fold.name: _one(champion, challenger, fold.name, question, name, tables)
        for fold in dataset.earlier
    }
    beaten = None
    if popular and popular not in (champion, challenger):
        beaten = _one(popular, challenger, "test", question, name, tables)
    return Pairing(
        champion,
        challenger,
        question,
        name,
        metrics,
        comparison.segment_differences(left, right, groups, name),
        windows,
        beaten,
    )


def _all_metrics(left: pa.Table, right: pa.Table, items: int) -> dict[str, Difference]:
    """Compare all that both tables hold."""
    names = [n for n in hit_table.metric_names(left) if n in right.column_names]
    return comparison.paired_differences(left, right, names) | comparison.catalogue_differences(
        left, right, items
    )


def _one(
    champion: Entrant,
    challenger: Entrant,
    window: str,
    question: str,
    metric: str,
    tables: HitTables,
) -> Difference:
    """Compare one metric on one window."""
    rows = _rows(champion, challenger, window, question, tables)
    return comparison.paired_differences(*rows, [metric])[metric]


def _rows(
    champion: Entrant, challenger: Entrant, window: str, question: str, tables: HitTables
) -> tuple[pa.Table, pa.Table]:
    """Return both runs' rows, row by row the same customers."""
    return comparison.paired_rows(
        tables.of(champion, window), tables.of(challenger, window), question
    )
