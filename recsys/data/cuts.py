"""Where a dataset's windows lie in time."""

from dataclasses import dataclass

from pydantic import Field
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.config import Config
from recsys.data.dataset import TEST, TRAIN, VALIDATION, window_names
from recsys.errors import DataError


class Split(Config):
    """Number and lengths of the windows at the end of the data."""

    test_days: int = Field(28, ge=1, description="days of each test window")
    validation_days: int = Field(
        28, ge=1, description="days of the validation window, just before the test windows"
    )
    windows: int = Field(
        1, ge=1, description="test windows, one behind the other; the last ends with the data"
    )


@dataclass(frozen=True)
class Cuts:
    """Where the windows lie, in days since 1970-01-01 UTC.

    Attributes:
        first: window → its first day, in the order of time.
        end: the day after the last.
    """

    first: dict[str, int]
    end: int

    @property
    def windows(self) -> tuple[str, ...]:
        """Their names, in the order of time."""
        return tuple(self.first)


def find_cuts(interactions: DataFrame, split: Split) -> Cuts:
    """Place the windows at the end of the data; raises DataError where no day is left to train."""
    start, end = _span(interactions)
    _, _, *tests = window_names(split.windows)
    first_test = end - split.test_days * split.windows
    validation = first_test - split.validation_days
    if start >= validation:
        raise _too_short(end - start, split)
    starts = {name: first_test + n * split.test_days for n, name in enumerate(tests)}
    return Cuts({TRAIN: start, VALIDATION: validation} | starts, end)


def cut_behind_all(interactions: DataFrame) -> Cuts:
    """Place the last cut behind the last day, so that a fit before it sees all that there is."""
    start, end = _span(interactions)
    return Cuts({TRAIN: start, TEST: end}, end)


def _span(interactions: DataFrame) -> tuple[int, int]:
    """Return the first day and the one after the last; raises DataError where there is none."""
    day = F.unix_date(F.to_date(c.TIMESTAMP))
    bounds = interactions.agg(F.min(day).alias("first"), F.max(day).alias("last")).first()
    if bounds is None or bounds["last"] is None:
        raise DataError("There are no interactions: run ingest on data that has some.")
    return int(bounds["first"]), int(bounds["last"]) + 1


def _too_short(days: int, split: Split) -> DataError:
    """Say that the windows take up all days, and what can be lowered."""
    tests, cure = f"{split.test_days} of test", "validation_days and test_days"
    if split.windows > 1:
        tests = f"{split.windows} test windows of {split.test_days} each (windows={split.windows})"
        cure = "windows, validation_days and test_days"
    return DataError(
        f"The interactions span {days} days, which leaves none to train on before "
        f"{split.validation_days} days of validation and {tests}: "
        f"ingest more history, or lower {cure}."
    )


def with_windows(interactions: DataFrame, cuts: Cuts) -> DataFrame:
    """Add each interaction's day (since 1970-01-01 UTC) and the window that it lies in."""
    dated = interactions.withColumn(c.DAY, F.unix_date(F.to_date(c.TIMESTAMP)))
    return dated.select(*c.INTERACTIONS, c.DAY, window_of(F.col(c.DAY), cuts).alias(c.WINDOW))


def window_of(day: Column, cuts: Cuts) -> Column:
    """Return the window that a day lies in."""
    window = F.lit(TRAIN)
    for name in cuts.windows[1:]:
        window = F.when(day >= cuts.first[name], name).otherwise(window)
    return window
