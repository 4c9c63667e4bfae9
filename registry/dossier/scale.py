"""The axis of the dossier's forest plots."""

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

# The marks at the ends of a scale need room too, in percent of its width.
MARGIN = 3.0
# Where all values lie on one side of 0, the other side is this share of it.
SIDE = 0.25


@dataclass(frozen=True)
class Scale:
    """The axis of a forest plot, drawn as wide as the page allows: places are percents.

    Attributes:
        low: value at its left end.
        high: value at its right end.
        ticks: round values on it.
    """

    low: float
    high: float
    ticks: list[float]

    def at(self, value: float) -> float:
        """Return the place of a value; beyond an end, that end."""
        share = (value - self.low) / (self.high - self.low)
        return round(MARGIN + (100 - 2 * MARGIN) * min(max(share, 0), 1), 2)


def scale(values: Iterable[float]) -> Scale:
    """Return a scale that holds the values, shows both sides of 0 and ends at round numbers."""
    known = [0.0, *values]
    low, high = min(known), max(known)
    if low == high:
        high = 1.0
    ticks = MaxNLocator(nbins=5).tick_values(min(low, -SIDE * high), max(high, -SIDE * low))
    return Scale(float(ticks[0]), float(ticks[-1]), [round(float(tick), 10) for tick in ticks])
