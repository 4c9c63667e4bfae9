"""What a driver that was killed leaves in MLflow, and what the next one makes of it."""

import mlflow
import pytest
from mlflow import MlflowClient

from recsys.models.als import AlsParameters
from recsys.search.goal import Goal
from recsys.search.record import Record, children_of
from recsys.search.space import Parameter, Range, Space

SPACE = Space({"als": (Parameter("alpha", Range(0.1, 10, log=True)),)})


class KilledError(Exception):
    pass


def test_a_trial_that_was_killed_before_its_parameters_were_written_gets_them(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = SPACE.point_of("als", AlsParameters(alpha=2.0))
    assert point is not None

    def kill(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError), mlflow.start_run() as parent:
        record = Record(parent, SPACE, Goal("m"))
        record.open("study")
        patch.setattr(MlflowClient, "log_batch", kill)
        record.begun(0, point)
    with mlflow.start_run() as parent:
        record = Record(parent, SPACE, Goal("m"))
        assert record.open("study") == {}
        record.begun(0, point)
        [trial] = children_of(parent)
    assert trial.data.params["algorithm"] == "als"
    assert float(trial.data.params["alpha"]) == pytest.approx(2.0)
