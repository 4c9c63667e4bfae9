"""The difference between a campaign's arms, with its 95 % interval; the customer is the unit.

Means, adjusted means and ratios all end in Welch's t-test (1947), which needs no equal variances:
the hold-out is smaller than the rest, and a campaign that works changes the spread too. Shares
have intervals of their own, which hold for rare events.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Margins = tuple[float, float]

LEVEL = 0.95
TAIL = (1 + LEVEL) / 2
FEWEST = 2
_EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Effect:
    """What the treatment changed.

    Attributes:
        control: the arm's mean, ratio or share; under CUPED adjusted.
        treatment: likewise.
        difference: treatment − control.
        low: lower end of the difference's 95 % interval.
        high: its upper end.
        p_value: two-sided, of no difference.
        customers: (treatment, control).
        method: how it was computed.
        variance_reduction: share of the difference's variance that CUPED took away.
        relative_low: lower end of the 95 % interval of `relative` (Fieller 1954; for shares Donner
            & Zou 2012); None where the control arm's own interval holds 0.
        relative_high: its upper end.
    """

    control: float
    treatment: float
    difference: float
    low: float
    high: float
    p_value: float
    customers: tuple[int, int]
    method: str
    variance_reduction: float = 0.0
    relative_low: float | None = None
    relative_high: float | None = None

    @property
    def relative(self) -> float | None:
        """The difference as a share of control; None where control is not above 0."""
        return self.difference / self.control if self.control > 0 else None

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    @property
    def error(self) -> float:
        """The difference's standard error, as its interval tells."""
        return (self.high - self.low) / (2 * float(special.ndtri(TAIL)))


def mean_effect(values: Values, treated: Flags) -> Effect:
    """Compare the means of two arms (Welch 1947).

    Args:
        values: float64 [customers], what each customer did; 0 for one who did nothing.
        treated: bool [customers], False for the control arm.

    Raises:
        ValueError: arrays that do not fit, a value that is no number, an arm with fewer than two.
    """
    _check(treated, values)
    return _welch(values, treated, "Welch")


def cuped_effect(values: Values, before: Values, treated: Flags) -> Effect:
    """Compare the means of two arms, less what the time before explains (Deng et al. 2013).

    Y′ = Y − θ(X − X̄) with θ = cov(X, Y) / var(X), taken within the arms and pooled over both, so
    that the effect itself does not enter it. The difference is that of a regression on arm and X;
    its variance falls by the square of their correlation. Where nobody differed before, it is
    `mean_effect`.

    Args:
        values: float64 [customers], what each customer did in the campaign's window.
        before: float64 [customers], the same or another quantity before it began.
        treated: bool [customers], False for the control arm.

    Raises:
        ValueError: as `mean_effect`.
    """
    _check(treated, values, before)
    plain = _welch(values, treated, "Welch")
    x, y = _centred(before, treated), _centred(values, treated)
    spread = float(x @ x)
    if spread <= _EPSILON * float(before @ before):
        return plain
    theta = float(x @ y) / spread
    found = _welch(values - theta * (before - before.mean()), treated, "CUPED")
    reduction = 1 - (found.error / plain.error) ** 2 if plain.error > 0 else 0.0
    return replace(found, variance_reduction=reduction)


def ratio_effect(numerator: Values, denominator: Values, treated: Flags) -> Effect:
    """Compare the ratio of two sums, such as sales a basket (delta method, Deng et al. 2018).

    Customers are independent, baskets of one customer need not be. A few customers with many
    baskets make the delta method's plain variance too small, so each counts by what the ratio
    would be without them: Var = Σ (R − R₍₋ᵢ₎)², the jackknife (HC3 of MacKinnon & White 1985),
    and the degrees of freedom are those of Kish's (1965) effective number, (ΣX)² / ΣX² − 1.
    Customers with neither numerator nor denominator change nothing.

    Args:
        numerator: float64 [customers], such as each customer's sales.
        denominator: float64 [customers], such as their number of baskets; may be 0.
        treated: bool [customers], False for the control arm.

    Raises:
        ValueError: as `mean_effect`, a denominator below 0, or an arm where fewer than two
            customers have one above 0.
    """
    _check(treated, numerator, denominator)
    if denominator.min() < 0:
        raise ValueError("a denominator is below 0: give counts or amounts.")
    t, c = (_ratio(numerator[arm], denominator[arm]) for arm in (treated, ~treated))
    return _compared(t, c, "delta method")


def proportion_effect(events: Flags, treated: Flags) -> Effect:
    """Compare the shares of customers to whom something happened.

    The interval is Newcombe's (1998, method 10), made of the arms' Wilson intervals: it has a
    width and stays within −1 … 1 also where an arm has no event at all. The p-value is that of
    the pooled z-test; near 5 % the two may disagree by a little, then the interval decides.

    Args:
        events: bool [customers], whether it happened.
        treated: bool [customers], False for the control arm.

    Raises:
        ValueError: as `mean_effect`.
    """
    _check(treated, events)
    n, m = int(treated.sum()), int((~treated).sum())
    hits, others = int(events[treated].sum()), int(events[~treated].sum())
    t, c = hits / n, others / m
    one_value = hits + others in (0, n + m)
    p_value = 1.0 if one_value else float(proportions_ztest([hits, others], [n, m])[1])
    of_t, of_c = _wilson(hits, n), _wilson(others, m)
    low, high = t - c - np.hypot(of_t[0], of_c[1]), t - c + np.hypot(of_t[1], of_c[0])
    relative = _relative(t, c, of_t, of_c)
    return Effect(
        c, t, t - c, float(low), float(high), p_value, (n, m), "two proportions", 0.0, *relative
    )


def _wilson(hits: int, customers: int) -> Margins:
    """Return how far Wilson's interval (1927) reaches below and above a share."""
    low, high = proportion_confint(hits, customers, method="wilson")
    share = hits / customers
    return share - float(low), float(high) - share


@dataclass(frozen=True)
class _Arm:
    """What an arm estimates.

    Attributes:
        customers: their number.
        estimate: mean or ratio.
        square: squared standard error of the estimate.
        freedom: degrees of freedom of `square`.
        rounding: errors below it are those of the arithmetic.
    """

    customers: int
    estimate: float
    square: float
    freedom: float
    rounding: float


def _mean(values: Values) -> _Arm:
    n, rounding = len(values), _EPSILON * float(np.abs(values).max())
    return _Arm(n, float(values.mean()), float(values.var(ddof=1)) / n, n - 1, rounding)


def _ratio(numerator: Values, denominator: Values) -> _Arm:
    total = float(denominator.sum())
    if np.count_nonzero(denominator) < FEWEST:
        raise ValueError(
            f"the denominator of an arm is 0 but for fewer than {FEWEST} customers: the ratio has "
            "no interval there."
        )
    ratio = float(numerator.sum()) / total
    # What the ratio loses with each customer.
    lost = (numerator - ratio * denominator) / (total - denominator)
    freedom = max(total**2 / float(denominator @ denominator) - 1, 1.0)
    rounding = _EPSILON * float(np.abs(numerator).max()) * len(numerator) / total
    return _Arm(len(numerator), ratio, float(lost @ lost), freedom, rounding)


def _welch(values: Values, treated: Flags, method: str) -> Effect:
    """Compare the means of two arms."""
    return _compared(_mean(values[treated]), _mean(values[~treated]), method)


def _compared(t: _Arm, c: _Arm, method: str) -> Effect:
    """Compare what two arms estimate; degrees of freedom as Welch and Satterthwaite have them."""
    difference = t.estimate - c.estimate
    squares, rounding = np.array([t.square, c.square]), max(t.rounding, c.rounding)
    error = np.sqrt(squares.sum())
    if error <= rounding:
        # Nobody differs from their arm.
        p_value, margin, margins = float(abs(difference) <= rounding), 0.0, (0.0, 0.0)
    else:
        parts = squares / squares.sum()
        freedom = 1 / float(np.sum(parts**2 / (t.freedom, c.freedom)))
        p_value = 2 * float(special.stdtr(freedom, -abs(difference) / error))
        quantile = float(special.stdtrit(freedom, TAIL))
        margin = quantile * float(error)
        margins = float(quantile * np.sqrt(squares[0])), float(quantile * np.sqrt(squares[1]))
    relative = _relative(t.estimate, c.estimate, (margins[0],) * 2, (margins[1],) * 2)
    return Effect(
        c.estimate, t.estimate, difference, difference - margin, difference + margin, p_value,
        (t.customers, c.customers), method, 0.0, *relative,
    )  # fmt: skip


def _relative(
    treatment: float, control: float, of_treatment: Margins, of_control: Margins
) -> tuple[float | None, float | None]:
    """Return the ends of the interval of treatment / control − 1.

    An end r solves (T − r C)² = a² + r² b² with the arms' margins a and b on that side, so r = 1 is
    left out exactly where the difference's interval leaves 0 out (Donner & Zou 2012; with t
    margins it is Fieller 1954).

    Args:
        treatment: T.
        control: C.
        of_treatment: how far below and above T its interval reaches.
        of_control: likewise for C.
    """
    if control <= of_control[0]:
        return None, None
    ends = []
    for side, sign in ((0, -1), (1, 1)):
        a = treatment**2 - of_treatment[side] ** 2
        b = control**2 - of_control[1 - side] ** 2
        product = treatment * control
        root = np.sqrt(max(product**2 - a * b, 0.0))
        # Of the two forms of a root, the one whose terms do not cancel; in the second b may be 0.
        end = (product + sign * root) / b if sign * product >= 0 else a / (product - sign * root)
        ends.append(float(end) - 1)
    return ends[0], ends[1]


def _centred(values: Values, treated: Flags) -> Values:
    """Take each arm's mean from its values."""
    return np.asarray(
        values - np.where(treated, values[treated].mean(), values[~treated].mean()),
        dtype=np.float64,
    )


def _check(treated: Flags, *columns: NDArray[np.float64 | np.bool_]) -> None:
    """Refuse what cannot be compared."""
    if treated.dtype != np.bool_:
        raise ValueError("treated must be bool: True for treatment, False for control.")
    for column in columns:
        if column.shape != treated.shape or column.ndim != 1:
            raise ValueError("give one value a customer: arrays of one length.")
        if not np.isfinite(column).all():
            raise ValueError("a value is no finite number: give 0 for a customer who did nothing.")
    arms = int(treated.sum()), int((~treated).sum())
    if min(arms) < FEWEST:
        raise ValueError(
            f"the arms have {arms[0]} and {arms[1]} customers (treatment, control): an effect "
            f"needs at least {FEWEST} in each."
        )
