"""What every timed process has in common: its job, its clock, its result.

A contender's module is started with the name of a measurement and its job as JSON:

  python -m benchmarks.contenders.implicit als '{"tables": [".bench/small/dataset/train"], …}'

Only what happens within a phase is timed: not the start of Spark, nor imports, nor the warm-up.
Needs nothing but Python, so that a library's own environment can run it too.
"""

import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULT = "result.json"
# MLlib removes bought items after it has ranked: from so many items more than are wanted.
MARGIN = 50
PACKAGES = ("implicit", "numpy", "pyarrow", "pyspark", "replay-rec", "scipy")


@dataclass(frozen=True)
class Job:
    """What a measurement is to do.

    Attributes:
        dataset: folder that `prepare` wrote.
        tables: its interactions before the test cut, folders of Parquet with `customer`, `item`.
        customers: customers before the cut.
        items: items before the cut.
        work: an empty folder.
        fitted: folder of our own factors: written by our fit, scored with by everybody.
        factors: length of a vector.
        iterations: of ALS.
        k: items a customer.
        neighbours: kept an item.
        seed: of the first factors.
    """

    dataset: str
    tables: tuple[str, ...]
    customers: int
    items: int
    work: str
    fitted: str
    factors: int = 64
    iterations: int = 10
    k: int = 10
    neighbours: int = 100
    seed: int = 7


@dataclass
class Clock:
    """Seconds of each phase, and what else is worth telling."""

    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time one phase."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


Measurement = Callable[[Job, Clock], None]


def run(measurements: dict[str, Measurement]) -> None:
    """Do what the command line asks for and leave the result in the work folder."""
    name, values = sys.argv[1:]
    job, clock = Job(**json.loads(values)), Clock()
    measurements[name](job, clock)
    result = {"seconds": clock.seconds, "facts": clock.facts, "versions": versions()}
    Path(job.work, RESULT).write_text(json.dumps(result), "utf-8")


def versions() -> dict[str, str]:
    """Return the versions of what this process may have used."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
