"""The service's clock: real time, which a test may push forward."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """Real time plus what a test added.

    A push goes from one thing that is due to the next, so that a month passes as a month would,
    with every run of a schedule at its hour.

    Args:
        due: when something is to happen next, None for never.
        act: does what is due.
    """

    def __init__(self, due: Callable[[], datetime | None], act: Callable[[], None]) -> None:
        self._due = due
        self._act = act
        self._added = timedelta()

    def now(self) -> datetime:
        """Return the service's time."""
        return datetime.now(UTC) + self._added

    def advance(self, seconds: float) -> None:
        """Let time pass; all that falls due in it has happened when this returns."""
        target = self._added + timedelta(seconds=seconds)
        self._act()
        while (due := self._due()) is not None:
            # What is due and cannot happen must not hold time up.
            step = max(due - self.now(), timedelta(milliseconds=50))
            if self._added + step > target:
                break
            self._added += step
            self._act()
        self._added = target
        self._act()
