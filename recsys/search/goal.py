"""What a search asks for, and what its trials came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from recsys.errors import UsageError
from recsys.hit_table import KS, QUESTIONS, metric_name
from recsys.metrics.ranking import METRICS, REVENUE_METRICS
from recsys.search.space import Point
from recsys.search.trial import FAILED, FINISHED, Outcome


@dataclass(frozen=True)
class Done:
    """A trial that has ended.

    Attributes:
        number: its place in the study.
        point: what it tried.
        outcome: how it ended.
        value: the metric that counts; None where it failed.
    """

    number: int
    point: Point
    outcome: Outcome
    value: float | None


@dataclass(frozen=True)
class Goal:
    """What is asked for: a metric, and whether more of it is better (sign 1) or less (-1)."""

    metric: str
    sign: int = 1

    @classmethod
    def of(cls, metric: str, direction: str) -> Self:
        """Check a metric's name.

        Args:
            metric: such as `ndcg_at_10` or `replenish/ndcg_at_10`.
            direction: `max` or `min`.

        Raises:
            UsageError: no trial would have it.
        """
        question, _, name = metric.rpartition("/")
        known = [f"{metric}_at_{k}" for metric in (*METRICS, *REVENUE_METRICS) for k in KS]
        if question not in ("", *QUESTIONS) or name not in known:
            raise UsageError(
                f"metric={metric} is unknown: choose one of {', '.join(known)}, "
                f"with {'/ or '.join(QUESTIONS)}/ before it for the question."
            )
        return cls(metric_name(question or "discover", name), 1 if direction == "max" else -1)

    def value(self, outcome: Outcome) -> float | None:
        """Return what a trial came to."""
        return None if outcome.status == FAILED else outcome.metrics[self.metric]

    def best(self, trials: Mapping[int, Done]) -> Done | None:
        """Return the best trial, the earliest of equals; None where all failed.

        One that was given up at the rung would not be what a refit makes: it does not count.
        """
        found = [t for t in trials.values() if t.value is not None and t.outcome.status == FINISHED]
        return max(found, key=lambda t: (self.sign * (t.value or 0.0), -t.number), default=None)
