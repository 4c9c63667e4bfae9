"""Whether the data has moved away from what a model was fitted on."""

from recsys.drift.findings import Drift, Finding, Limits, drift_between, drift_since
from recsys.drift.periods import Period, Periods, read_periods
from recsys.drift.shown import show

__all__ = [
    "Drift",
    "Finding",
    "Limits",
    "Period",
    "Periods",
    "drift_between",
    "drift_since",
    "read_periods",
    "show",
]
