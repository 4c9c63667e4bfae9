"""Requests that the service spoils on command."""

import threading
from dataclasses import dataclass, field

LOST = "lost"


@dataclass
class Fault:
    """What happens to some requests; `status` LOST: carried out, but the answer never arrives."""

    method: str
    word: str
    status: int | str
    times: int
    retry_after: int | None = None


@dataclass
class Faults:
    """The faults to come, each a number of times."""

    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        method: str,
        word: str,
        status: int | str,
        times: int = 1,
        retry_after: int | None = None,
    ) -> Fault:
        """Spoil the next requests whose path holds a word.

        Args:
            method: GET, POST, …, or * for any.
            word: part of the path.
            status: 429 or 503, or LOST.
            times: how many requests.
            retry_after: seconds that the answer tells the client to wait.

        Returns:
            The fault; its `times` goes down to 0.
        """
        fault = Fault(method, word, status, times, retry_after)
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """Return what happens to a request, and count it."""
        with self._lock:
            for fault in self._faults:
                if fault.times and fault.method in ("*", method) and fault.word in path:
                    fault.times -= 1
                    return fault
        return None
