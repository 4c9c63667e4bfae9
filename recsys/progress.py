"""Progress on the terminal: one line when a stage starts, one when it ends."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_silent = False


def silence() -> None:
    """Print nothing more in this process: a task's lines would mix with the driver's."""
    global _silent
    _silent = True


def say(text: str) -> None:
    """Print one line at once, also where the output is a pipe."""
    if not _silent:
        print(text, flush=True)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Announce a stage and how long it took."""
    start = time.monotonic()
    say(f"▸ {name}")
    yield
    say(f"  {name}: {time.monotonic() - start:.1f} s")


# In a log, which others may follow from afar, a line now and then.
SECONDS_A_LINE = 15.0


class Counter:
    """A counter that rewrites its line on a terminal, and adds one now and then to a log."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total = name, total
        self._said = time.monotonic()

    def show(self, done: int, note: str = "") -> None:
        """Show `done` of `total`, with a short note such as the loss."""
        line = f"  {self.name} {done}/{self.total} {note}".rstrip()
        if sys.stdout.isatty():
            print(f"\r{line}\033[K", end="\n" if done == self.total else "", flush=True)
        elif time.monotonic() - self._said >= SECONDS_A_LINE:
            self._said = time.monotonic()
            say(line)
