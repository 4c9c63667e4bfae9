"""Run a study's trials, several at once, until a limit is reached or somebody says stop."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from recsys.errors import RecsysError
from recsys.search.goal import Done, Goal
from recsys.search.space import Point
from recsys.search.study import Study, Trial
from recsys.search.trial import Outcome, Rung

# Of the trials that were looked at at the rung, one in so many goes on.
ETA = 3
# So many must have been looked at before any is given up.
FEWEST_LOOKS = 6
# With so many failures and nothing else, something else is wrong than a setting.
MOST_FAILURES = 10
INTERRUPTED = "interrupted"
# How long Ctrl-C may take to be heard, in seconds.
LISTENS_EVERY = 0.2


@dataclass(frozen=True)
class Limits:
    """When a search ends.

    Attributes:
        max_evals: trials.
        minutes: of wall time; None for any.
        patience: trials without a better one; None for any number.
    """

    max_evals: int
    minutes: float | None = None
    patience: int | None = None


class Trials:
    """The loop: suggest, launch, wait, record."""

    def __init__(
        self,
        study: Study,
        goal: Goal,
        limits: Limits,
        launch: Callable[[int, Point, Rung | None], Outcome],
        cancel: Callable[[], None],
        begun: Callable[[int, Point], None],
        ended: Callable[[Done, Mapping[int, Done]], None],
        rung: int | None = None,
        earlier: tuple[Trial, ...] = (),
    ) -> None:
        """Keep what the loop needs.

        Args:
            study: what to try.
            goal: what is asked for.
            limits: when to end.
            launch: runs one trial, in a thread of its own.
            cancel: ends the trials at work.
            begun: called before a trial is launched.
            ended: called after each trial with all that have ended.
            rung: iterations after which fits are looked at; None for no look.
            earlier: trials of an earlier study.
        """
        self.study, self.goal, self.limits = study, goal, limits
        self.launch, self.cancel, self.begun, self.ended = launch, cancel, begun, ended
        self.rung, self.earlier = rung, earlier

    def run(self, done: dict[int, Done]) -> str:
        """Run until a limit; adds to `done`, which may hold a killed driver's trials.

        Returns:
            Why it ended; INTERRUPTED where somebody said stop, with the trials at work given up.

        Raises:
            RecsysError: nothing but failures.
        """
        started = time.monotonic()
        to_do = [n for n in range(self.limits.max_evals) if n not in done]
        at_work: dict[Future[Outcome], tuple[int, Point]] = {}
        with interruptible() as stop, ThreadPoolExecutor(self.study.at_once, "trial") as threads:
            while True:
                why = self._why_end(done, time.monotonic() - started)
                while not why and to_do and self._may_begin(to_do[0], done, len(at_work)):
                    number = to_do.pop(0)
                    point = self._suggested(number, done)
                    self.begun(number, point)
                    future = threads.submit(self.launch, number, point, self._rung(number, done))
                    at_work[future] = number, point
                if not at_work:
                    return why or f"all {self.limits.max_evals} trials are done"
                ready, _ = wait(at_work, LISTENS_EVERY, FIRST_COMPLETED)
                if stop.is_set():
                    self.cancel()
                    return INTERRUPTED
                for future in sorted(ready, key=lambda f: at_work[f][0]):
                    number, point = at_work.pop(future)
                    outcome = future.result()
                    done[number] = Done(number, point, outcome, self.goal.value(outcome))
                    self.ended(done[number], done)

    def _may_begin(self, number: int, done: Mapping[int, Done], at_work: int) -> bool:
        """Tell whether there is room for a trial, and all is known that it is chosen by."""
        known = all(n in done for n in range(self.study.needed(number)))
        return known and at_work < self.study.at_once

    def _suggested(self, number: int, done: Mapping[int, Done]) -> Point:
        trials = [
            Trial(d.number, d.point, None if d.value is None else -self.goal.sign * d.value)
            for d in done.values()
        ]
        return self.study.suggest(number, [*self.earlier, *trials])

    def _rung(self, number: int, done: Mapping[int, Done]) -> Rung | None:
        """Return the look that a trial is given: the bar is what the best third reached."""
        if self.rung is None:
            return None
        looks = [
            self.goal.sign * d.outcome.at_rung
            for n, d in done.items()
            if n < self.study.needed(number) and d.outcome.at_rung is not None
        ]
        if len(looks) < FEWEST_LOOKS:
            return Rung(self.rung)
        return Rung(self.rung, self.goal.sign * sorted(looks, reverse=True)[len(looks) // ETA])

    def _why_end(self, done: Mapping[int, Done], seconds: float) -> str:
        """Return why no more trials are begun; empty where more are."""
        limits = self.limits
        if len(done) >= MOST_FAILURES and all(d.value is None for d in done.values()):
            last = max(done.values(), key=lambda d: d.number)
            raise RecsysError(
                f"None of {len(done)} trials worked; the last one: {last.outcome.reason} "
                "Mend that, or look elsewhere (space=…)."
            )
        if limits.minutes is not None and seconds >= 60 * limits.minutes:
            return f"{limits.minutes:g} minutes are over"
        best = self.goal.best(done)
        if limits.patience is not None and best is not None:
            # Counted over trials in the order of their numbers, without a gap.
            known = next(n for n in range(len(done) + 1) if n not in done)
            if known - 1 - best.number >= limits.patience:
                return f"{limits.patience} trials brought nothing better"
        return ""


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event; the second ends the program as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    usual = signal.getsignal(signal.SIGINT)

    def hear(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, hear)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, usual)
