"""A study in MLflow: a parent run, one child a trial; they are the study's state as well.

A driver that was killed leaves its parent RUNNING. The same command, run again, opens a new parent,
which takes the children over: trials that ended count, those that were at work are run again in
their own runs, so that none is lost and none is there twice.
"""

import json
import time
from collections.abc import Mapping

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from recsys import tracking, view
from recsys.drivers import DRIVER_TAG, driver, is_alive
from recsys.errors import UsageError
from recsys.once import run_of
from recsys.search import plots
from recsys.search.goal import Done, Goal
from recsys.search.space import Point, Space
from recsys.search.trial import FAILED, Outcome

STUDY_TAG = "recsys.study"
TRIAL_TAG = "recsys.trial"
POINT_TAG = "recsys.point"
OUTCOME_TAG = "recsys.outcome"
TRIAL = "trial"
WINDOW = "validation"
AT_RUNG, SECONDS, FIT_SECONDS = "trial/at_rung", "trial/seconds", "trial/fit_seconds"
NUMBERED = "trial {:03d}"


class Record:
    """Writes a study's trials into MLflow.

    Attributes:
        parent: the study's run.
    """

    def __init__(self, parent: Run, space: Space, goal: Goal) -> None:
        self.parent, self.space, self.goal = parent, space, goal
        self._client = MlflowClient()
        self._children: dict[int, str] = {}

    def open(self, study: str) -> dict[int, Done]:
        """Claim a study, and take over what a former driver of it left.

        Args:
            study: digest of all that its trials depend on.

        Returns:
            Trials that have ended, by number.

        Raises:
            UsageError: its former driver still works on it.
        """
        former = self._former(study)
        mine = self.parent.info.run_id
        self._client.set_tag(mine, DRIVER_TAG, driver())
        self._client.set_tag(mine, STUDY_TAG, study)
        done: dict[int, Done] = {}
        # All of them: a driver that is killed in the midst of this leaves trials with two parents.
        for run in former:
            for child in children_of(run):
                number = int(child.data.tags[TRIAL_TAG])
                self._client.set_tag(child.info.run_id, MLFLOW_PARENT_RUN_ID, mine)
                self._children[number] = child.info.run_id
                if OUTCOME_TAG in child.data.tags:
                    done[number] = done_of(child, self.goal)
                    if child.info.status == "RUNNING":
                        self._terminate(number, done[number].outcome)
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
        for number in sorted(done):
            self._log_best({n: trial for n, trial in done.items() if n <= number}, number)
        return done

    def _former(self, study: str) -> list[Run]:
        """Return the study's runs that did not finish; raises UsageError where one is at work."""
        found = self._client.search_runs(
            [self.parent.info.experiment_id],
            f"tags.`{STUDY_TAG}` = '{study}' and attributes.status != 'FINISHED'",
        )
        former = [run for run in found if run.info.run_id != self.parent.info.run_id]
        for run in former:
            process = run.data.tags.get(DRIVER_TAG, "")
            if run.info.status == "RUNNING" and is_alive(process):
                raise UsageError(
                    f"This very search is at work already, in process {process.split()[1]}: "
                    "wait for it, end it, or choose another seed."
                )
        return former

    def begun(self, number: int, point: Point) -> None:
        """Write a trial that is about to be launched."""
        algorithm, parameters = self.space.chosen(point)
        if number in self._children:
            # A former driver was killed during this trial, perhaps before it wrote parameters.
            self._client.update_run(self._children[number], "RUNNING")
        else:
            self._children[number] = self._made(number, algorithm, point)
        named = {"algorithm": algorithm, **parameters.model_dump()}
        params = [Param(name, str(value)) for name, value in named.items()]
        self._client.log_batch(self._children[number], params=params)

    def _made(self, number: int, algorithm: str, point: Point) -> str:
        """Make a trial's run; returns its id."""
        tags = {
            MLFLOW_PARENT_RUN_ID: self.parent.info.run_id,
            tracking.STEP_TAG: TRIAL,
            tracking.CODE_TAG: tracking.code_version(),
            tracking.ALGORITHM_TAG: algorithm,
            TRIAL_TAG: str(number),
            POINT_TAG: json.dumps(point),
        }
        info = self.parent.info
        run = run_of(info.experiment_id, f"{info.run_id} {number}", NUMBERED.format(number), tags)
        return str(run.info.run_id)

    def ended(self, trial: Done, done: Mapping[int, Done]) -> None:
        """Write how a trial ended, and the best so far."""
        outcome, now = trial.outcome, int(time.time() * 1000)
        # MLflow's comparison page draws the metric that was logged first.
        names = dict.fromkeys([self.goal.metric, *outcome.metrics])
        values = {
            f"{WINDOW}/{name}": outcome.metrics[name]
            for name in names
            if name in outcome.metrics and (name.endswith("_at_10") or name == self.goal.metric)
        }
        took = {SECONDS: outcome.seconds, FIT_SECONDS: outcome.fit_seconds}
        values |= {name: round(seconds, 2) for name, seconds in took.items()}
        if outcome.at_rung is not None:
            values[AT_RUNG] = outcome.at_rung
        tags = [RunTag(OUTCOME_TAG, outcome.status)]
        tags += [RunTag("recsys.error", outcome.reason[:500])] if outcome.reason else []
        run_id = self._children[trial.number]
        # MLflow writes tags last: where this one is, all is there.
        metrics = [Metric(name, float(value), now, 0) for name, value in values.items()]
        self._client.log_batch(run_id, metrics=metrics, tags=tags)
        self._terminate(trial.number, outcome)
        self._log_best(done, trial.number)

    def _terminate(self, number: int, outcome: Outcome) -> None:
        status = "FAILED" if outcome.status == FAILED else "FINISHED"
        self._client.set_terminated(self._children[number], status)

    def best(self, done: Mapping[int, Done], count: int) -> list[tuple[str, str]]:
        """Return experiment and run id of the best trials."""
        found = [(t.number, t.value) for t in done.values() if t.value is not None]
        found.sort(key=lambda trial: (-self.goal.sign * (trial[1] or 0.0), trial[0]))
        experiment = self.parent.info.experiment_id
        return [(experiment, self._children[number]) for number, _ in found[:count]]

    def show(self) -> str:
        """Make a view of the trials in MLflow's UI, best first, and return its key."""
        metrics = [f"{WINDOW}/{self.goal.metric}", SECONDS]
        metrics += [n for n in view.METRICS if n.startswith(WINDOW) and n not in metrics]
        names = [parameter.name for _, parameter in self.space.labels.values()]
        info, parameters = self.parent.info, list(dict.fromkeys(["algorithm", *names]))
        return view.describe_children(
            info.experiment_id, info.run_id, metrics, parameters, ascending=self.goal.sign < 0
        )

    def _log_best(self, done: Mapping[int, Done], number: int) -> None:
        best = self.goal.best(done)
        if best is not None and best.value is not None:
            name = f"best/{WINDOW}/{self.goal.metric}"
            self._client.log_metric(self.parent.info.run_id, name, best.value, step=number)

    def close(self, done: Mapping[int, Done]) -> None:
        """Write the space, the table of all trials and the plots; give up what did not end."""
        for number, run_id in self._children.items():
            if number not in done:
                self._client.set_terminated(run_id, "KILLED")
        mlflow.log_dict(self.space.described(), "space.json")
        mlflow.log_table(table(done, self.space, self.goal), "trials.json")
        for name, figure in plots.all_of(done, self.space, self.goal).items():
            mlflow.log_figure(figure, f"plots/{name}.png")


def children_of(parent: Run) -> list[Run]:
    """Return a study's trials."""
    client, found, token = MlflowClient(), [], None
    while True:
        page = client.search_runs(
            [parent.info.experiment_id],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.info.run_id}' "
            f"and tags.`{tracking.STEP_TAG}` = '{TRIAL}'",
            page_token=token,
        )
        found += list(page)
        token = page.token
        if not token:
            return found


def table(done: Mapping[int, Done], space: Space, goal: Goal) -> pd.DataFrame:
    """Return one row a trial, in the order of their numbers."""
    rows = []
    for number, trial in sorted(done.items()):
        algorithm, parameters = space.chosen(trial.point)
        rows.append(
            {
                "trial": number,
                "outcome": trial.outcome.status,
                f"{WINDOW}/{goal.metric}": trial.value,
                "seconds": round(trial.outcome.seconds, 2),
                "algorithm": algorithm,
                **parameters.model_dump(),
                "reason": trial.outcome.reason,
            }
        )
    return pd.DataFrame(rows)


def done_of(run: Run, goal: Goal) -> Done:
    """Read a trial back."""
    metrics, tags = run.data.metrics, run.data.tags
    values = {
        name.removeprefix(f"{WINDOW}/"): value
        for name, value in metrics.items()
        if name.startswith(f"{WINDOW}/")
    }
    outcome = Outcome(
        tags[OUTCOME_TAG],
        values,
        tags.get("recsys.error", ""),
        metrics.get(AT_RUNG),
        metrics.get(FIT_SECONDS, 0.0),
        metrics.get(SECONDS, 0.0),
    )
    if outcome.status != FAILED and goal.metric not in values:
        raise UsageError(f"The trials of that search have no {goal.metric}: search anew.")
    return Done(int(tags[TRIAL_TAG]), json.loads(tags[POINT_TAG]), outcome, goal.value(outcome))
