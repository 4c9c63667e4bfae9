"""What was found, in the words of people who do not read statistics."""

from deploy.measure.judged import Measured
from deploy.measure.metrics import BY_NAME, DESCRIBED
from deploy.measure.results import BETTER, NOT_SEEN, VOID, WORSE, Result

ABSENT = "–"
# A space that keeps a number and its unit on one line.
THIN = "\u00a0"


def percent(share: float | None, digits: int = 1) -> str:
    """Write a change as a signed percentage."""
    return ABSENT if share is None else f"{_minus(f'{100 * share:+.{digits}f}')}{THIN}%"


def amount(value: float | None, metric: str, signed: bool = False) -> str:
    """Write a metric's value, or with its sign a difference; shares in percent."""
    if value is None:
        return ABSENT
    sign = "+" if signed else ""
    if is_share(metric):
        return _minus(f"{100 * value:{sign}.1f}") + f"{THIN}%" + " points" * signed
    return _minus(f"{value:{sign},.2f}")


def is_share(metric: str) -> bool:
    """Tell whether a metric is a share of customers."""
    return BY_NAME[metric].is_share if metric in BY_NAME else metric == "bought_recommended"


def title(metric: str) -> str:
    """Return what people call a metric."""
    return BY_NAME[metric].title if metric in BY_NAME else DESCRIBED[metric][0]


def sentence(found: Measured) -> str:
    """Say what a campaign did to sales, the first thing that a reader should know."""
    row, days = found.primary, f"{found.days} days"
    if row.verdict == VOID:
        what = "This campaign" if found.void_reason else "What it did to sales"
        return f"{what} cannot be judged: {row.void_reason}."
    if row.verdict == NOT_SEEN:
        return (
            f"No effect on sales was seen in {days} ({_between(row)}). "
            f"This test would have found a change of about {could_see(row)}."
        )
    more = "more" if row.verdict == BETTER else "less"
    return (
        f"Customers who got recommendations spent {abs(row.difference or 0):,.2f} {more} "
        f"each in {days} ({_between(row)})."
    )


def headline(found: Measured) -> str:
    """Say in a word how a campaign went."""
    words = {BETTER: "▲ Sales rose", WORSE: "▼ Sales fell", NOT_SEEN: "No effect seen"}
    void = "✗ Cannot be judged" if found.void_reason else "✗ Sales cannot be judged"
    word = words.get(found.primary.verdict, void)
    return f"{word}, but the window is not over" if found.is_short and found.days else word


def could_see(row: Result) -> str:
    """Write the smallest change that the test would have found."""
    if row.relative_detectable is not None:
        return f"±{100 * row.relative_detectable:.1f}{THIN}%"
    return ABSENT if row.detectable is None else f"±{row.detectable:,.2f}"


def _between(row: Result) -> str:
    """Write the change with its interval, relative where control allows."""
    if row.relative is None or row.relative_low is None or row.relative_high is None:
        low, high = (amount(value, row.metric, True) for value in (row.low, row.high))
        return f"between {low} and {high}"
    low, high = percent(row.relative_low), percent(row.relative_high)
    return f"{percent(row.relative)}, between {low} and {high}"


def _minus(text: str) -> str:
    return text.replace("-", "−")


def table(found: list[Measured]) -> list[str]:
    """Write what a step prints at its end: a line a campaign and metric, over all customers."""
    lines = [
        f"{'strategy':<22}{'metric':<32}{'treatment':>12}{'control':>12}  change (95 % interval)"
    ]
    for one in found:
        for row in one.results:
            if row.segment_by != "all" or row.metric not in BY_NAME:
                continue
            values = (amount(v, row.metric) for v in (row.treatment, row.control))
            told = _between(row) if row.difference is not None else str(row.void_reason)
            cells = "".join(f"{value:>12}" for value in values)
            lines.append(f"{row.strategy:<22}{title(row.metric):<32}{cells}  {told}")
    return lines
