"""Start from an earlier search.

On the same data its trials are what the new search's sampler already knows; on other data, where
their values cannot be compared, its best settings are tried first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient

from recsys import tracking
from recsys.errors import UsageError
from recsys.models import ALGORITHMS
from recsys.models.base import Hyperparameters
from recsys.search.goal import Goal
from recsys.search.record import OUTCOME_TAG, children_of, done_of
from recsys.search.space import Point, Space
from recsys.search.study import Trial
from recsys.search.trial import FINISHED

# Of a search on other data, so many of the best settings are tried.
TAKEN = 5


@dataclass(frozen=True)
class Earlier:
    """A search that ended.

    Attributes:
        settings: recommender, hyperparameters and value of each trial that finished.
        same: whether its values may stand beside those of the new search.
    """

    settings: tuple[tuple[str, Hyperparameters, float], ...] = ()
    same: bool = False

    def firsts(self, space: Space) -> tuple[Point, ...]:
        """Return what the first trials try: the defaults; and the best of a search on other data.

        What lies outside the space is left out.
        """
        wanted = [(name, ALGORITHMS[name].parameters_class()) for name in space.algorithms]
        if not self.same:
            wanted += [(name, values) for name, values, _ in self.settings[:TAKEN]]
        points = [space.point_of(name, values) for name, values in wanted]
        return tuple(p for n, p in enumerate(points) if p is not None and p not in points[:n])

    def known(self, space: Space, goal: Goal) -> tuple[Trial, ...]:
        """Return the trials that the sampler may learn from, numbered below 0."""
        settings = self.settings if self.same else ()
        found = [(space.point_of(name, values), value) for name, values, value in settings]
        inside = [(point, value) for point, value in found if point is not None]
        return tuple(
            Trial(number - len(inside), point, -goal.sign * value)
            for number, (point, value) in enumerate(inside)
        )


def earlier_study(run_id: str, goal: Goal, told: Mapping[str, str]) -> Earlier:
    """Read a former search.

    Args:
        run_id: of its parent.
        goal: of the new search.
        told: what must be alike for values to be comparable, as parameters of the parent.

    Raises:
        UsageError: the run is no search, or its trials lack the metric.
    """
    try:
        parent = MlflowClient().get_run(run_id)
    except mlflow.MlflowException:
        raise UsageError(f"start_from={run_id}: there is no such run.") from None
    settings = []
    for run in children_of(parent):
        if run.data.tags.get(OUTCOME_TAG) != FINISHED:
            continue
        algorithm = run.data.tags[tracking.ALGORITHM_TAG]
        value = goal.value(done_of(run, goal).outcome)
        parameters_class = ALGORITHMS[algorithm].parameters_class
        known = {
            name: None if text == "None" else text
            for name, text in run.data.params.items()
            if name in parameters_class.model_fields
        }
        parameters = parameters_class.checked(known, f"start_from={run_id}")
        settings.append((algorithm, parameters, value or 0.0))
    if not settings:
        raise UsageError(
            f"start_from={run_id} is no search with trials: give the id of a search's parent run."
        )
    settings.sort(key=lambda found: -goal.sign * found[2])
    same = all(parent.data.params.get(name) == value for name, value in told.items())
    return Earlier(tuple(settings), same)
