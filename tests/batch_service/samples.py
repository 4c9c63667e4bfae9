"""What the service remembers of a pool's variables, for autoscale formulas."""

from datetime import datetime, timedelta

KEPT = timedelta(days=1)


class Samples:
    """A value of each variable every so many seconds.

    Args:
        seconds: between two samples.
        since: when the pool began.
    """

    def __init__(self, seconds: float, since: datetime) -> None:
        self.interval = timedelta(seconds=seconds)
        self._next = since
        self._rows: list[tuple[datetime, dict[str, float]]] = []

    def record(self, now: datetime, values: dict[str, float]) -> None:
        """Take the samples that are due; values hold since the last call."""
        self._next = max(self._next, now - KEPT)
        while self._next <= now:
            self._rows.append((self._next, values))
            self._next += self.interval
        while self._rows and self._rows[0][0] < now - KEPT:
            self._rows.pop(0)

    def between(self, name: str, begin: datetime, end: datetime) -> list[float]:
        """Return the samples of a variable in a stretch of time, oldest first."""
        return [row[name] for time, row in self._rows if begin < time <= end]

    def last(self, name: str, number: int) -> list[float]:
        """Return the last samples of a variable, oldest first."""
        return [row[name] for _, row in self._rows[-number:]] if number > 0 else []

    def percent(self, begin: datetime, end: datetime) -> float:
        """Return how many of the samples that a stretch of time could have are there, in %."""
        possible = max(1, round((end - begin) / self.interval))
        there = sum(begin < time <= end for time, _ in self._rows)
        return min(100.0, 100.0 * there / possible)
