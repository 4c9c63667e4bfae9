"""The experiment's page in the MLflow UI: a description, and a ready-made view of the runs.

By default the runs page shows no metric. A view's state can be shared as a tag of the experiment;
its address then opens the page with the columns that matter, the best run on top.
"""

import base64
import json
import os
import zlib
from collections.abc import Sequence
from urllib.parse import quote

import mlflow
from mlflow import MlflowClient

VIEW = "recommenders"
SHARED = "mlflow.sharedViewState."
# Without it MLflow opens its pages for language models.
TRAINING_MODE = "workflowType=machine_learning"
SORTED_BY = "test/ndcg_at_10"
METRICS = (
    "test/ndcg_at_10",
    "test/recall_at_10",
    "test/coverage_at_10",
    "test/replenish/ndcg_at_10",
    "validation/ndcg_at_10",
    "validation/replenish/ndcg_at_10",
)
PARAMETERS = (
    "algorithm",
    "dataset_digest",
    "factors",
    "regularization",
    "alpha",
    "similarity",
    "neighbours",
    "half_life_days",
    "trend_power",
    "repeat_weight",
)
# The trials of a search, sixty at a time, would bury the recommenders.
NO_TRIALS = "tags.`recsys.step` != 'trial'"
DESCRIPTION = """\
Recommenders for one retailer, judged customer by customer.

**How to read it.** `test/ndcg_at_10` answers *discover*: what will a customer buy that they have
not bought before? `test/replenish/ndcg_at_10` answers *replenish*: what will they buy, bought
before or not? Every metric at 10 has `_low` and `_high`, its 95 % interval. Only runs with the same
`dataset_digest` may be compared.

**Where to click.** [The runs, best first]({runs}) · a run's *Artifacts*: plots, twenty sample
customers, the hit table (how each customer did) · {compared}
"""
# What a run is, and what to look at next; trainings and comparisons write their own at the end.
STEPS = {
    "main": "The whole flow; each step is a child run. Next: the *compare* child's dossier.",
    "simulate": "Raw transactions of a drawn retailer, and the truth behind them. Next: `ingest`.",
    "ingest": "Raw transactions became interactions; rows that cannot be used went to quarantine "
    "with their reasons. Next: the counts under *Artifacts*, then `prepare`.",
    "prepare": "Interactions cut in time, under one digest: only runs on it are compared. Next: "
    "`dataset.json` under *Artifacts*, then train `popularity`, `item_item`, `als`.",
    "search": "Many settings tried on the validation window, a child run each; the best is fitted "
    "again on all before the test window. Next: `plots/` under *Artifacts*, then the best run.",
    "compare": "Every run on one dataset against the champion. Next: `dossier.html` under "
    "*Artifacts*.",
    "refit": "A candidate was fitted again on all interactions up to now, and held against the "
    "model that was evaluated. Next: `refit.html` under *Artifacts*, then `promote`.",
    "promote": "A candidate became a release and holds the stage. Next: `batch_score`.",
    "rollback": "The previous release holds the stage again. Next: `batch_score`.",
    "batch_score": "Recommendations for every customer, published by one commit. Next: the counts "
    "below, then read the table through its commit.",
    "measure": "What campaigns did, a child run each. Next: `report.html` under *Artifacts*.",
    "monthly": "A month of the platform; each step is a child run. Next: the *measure* child's "
    "report, and the *compare* child's dossier.",
}
COMPARED = "[The last comparison]({page}) side by side, and [its dossier]({dossier}): {sentence}"
NOT_COMPARED = "`python -m registry.compare` for who beats whom, and for how many customers."
NOTE, OWN_NOTE = "mlflow.note.content", "recsys.note"


def describe_experiment(experiment_id: str, compared: str = NOT_COMPARED) -> None:
    """Give an experiment its view and description; a description that a person wrote stays.

    Args:
        experiment_id: which experiment.
        compared: what its description says of the last comparison.
    """
    client = MlflowClient()
    tags = client.get_experiment(experiment_id).tags
    note = DESCRIPTION.format(runs=view_address(experiment_id, host=""), compared=compared)
    ours = tags.get(NOTE) in (None, tags.get(OWN_NOTE))
    if ours and (NOTE not in tags or compared != NOT_COMPARED):
        for name in (NOTE, OWN_NOTE):
            client.set_experiment_tag(experiment_id, name, note)
    state = _encoded(view_state())
    if tags.get(f"{SHARED}{VIEW}") != state:
        client.set_experiment_tag(experiment_id, f"{SHARED}{VIEW}", state)


def describe_children(
    experiment_id: str,
    run_id: str,
    metrics: Sequence[str],
    parameters: Sequence[str],
    ascending: bool = False,
) -> str:
    """Make a view of a run's children, and return its key.

    Args:
        experiment_id: which experiment.
        run_id: of the parent.
        metrics: columns; the first one sorts.
        parameters: columns.
        ascending: the lowest first.
    """
    key, mine = f"children-{run_id[:8]}", f"tags.`mlflow.parentRunId` = '{run_id}'"
    state = _encoded(view_state(mine, metrics, parameters, ascending))
    MlflowClient().set_experiment_tag(experiment_id, f"{SHARED}{key}", state)
    return key


def view_address(experiment_id: str, host: str | None = None, key: str = VIEW) -> str:
    """Return the address of a ready-made view; `host` as in `address`."""
    path = f"experiments/{experiment_id}/runs"
    return f"{address(path, host)}?{_mode()}&viewStateShareKey={key}"


def run_address(experiment_id: str, run_id: str, host: str | None = None) -> str:
    """Return the address of a run's page; `host` as in `address`."""
    return f"{address(f'experiments/{experiment_id}/runs/{run_id}', host)}?{_mode()}"


def artifact_address(experiment_id: str, run_id: str, path: str, host: str | None = None) -> str:
    """Return the address of a run's artifact in the UI; `host` as in `address`."""
    page = f"experiments/{experiment_id}/runs/{run_id}/artifacts/{path}"
    return f"{address(page, host)}?{_mode()}"


def comparison_address(runs: Sequence[tuple[str, str]], host: str | None = None) -> str:
    """Return the address of the page that shows runs side by side.

    Args:
        runs: experiment and run id of each.
        host: see `address`.
    """
    ids = json.dumps([run_id for _, run_id in runs], separators=(",", ":"))
    experiments = json.dumps(sorted({e for e, _ in runs}), separators=(",", ":"))
    query = f"runs={quote(ids)}&experiments={quote(experiments)}&{_mode()}"
    return address(f"compare-runs?{query}", host)


def address(path: str, host: str | None = None) -> str:
    """Return the address of a page of the UI.

    Args:
        path: of the page.
        host: of the UI; None for the tracking server, or for `make ui` where there is none; empty
            for a link from inside the UI.
    """
    if host is None:
        uri = mlflow.get_tracking_uri()
        host = uri if uri.startswith("http") else f"http://127.0.0.1:{os.environ.get('PORT', 5000)}"
    return f"{host}/#/{path}"


def _mode() -> str:
    """Return what every address ends with.

    A team's server has workspaces, and then MLflow forgets an address that names none.
    """
    on_server = mlflow.get_tracking_uri().startswith("http")
    return f"{TRAINING_MODE}&workspace=default" if on_server else TRAINING_MODE


def view_state(
    runs: str = NO_TRIALS,
    metrics: Sequence[str] = METRICS,
    parameters: Sequence[str] = PARAMETERS,
    ascending: bool = False,
) -> dict[str, object]:
    """Return the state of the runs page, as MLflow 3.17 stores it.

    Args:
        runs: filter.
        metrics: columns; the first one sorts.
        parameters: columns.
        ascending: the lowest first.
    """
    columns = [f"metrics.`{name}`" for name in metrics] + [f"params.`{n}`" for n in parameters]
    return {
        "searchFilter": runs,
        "orderByKey": f"metrics.`{metrics[0]}`",
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "groupBy": "",
        "groupsExpanded": {},
        "compareRunCharts": None,
        "compareRunSections": None,
        "viewMode": "TABLE",
    }


def _encoded(state: dict[str, object]) -> str:
    packed = zlib.compress(json.dumps(state, sort_keys=True).encode())
    return "deflate;" + base64.b64encode(packed).decode()
