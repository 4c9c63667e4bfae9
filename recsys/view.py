"""The experiment's page in the MLflow UI: a description, and a ready-made view of the runs.

By default the runs page shows no metric. A view's state can be shared as a tag of the experiment;
its address then opens the page with the columns that matter, the best run on top.
"""

import base64
import json
import os
import zlib

import mlflow
from mlflow import MlflowClient

VIEW = "recommenders"
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
DESCRIPTION = """\
Recommenders for one retailer, judged customer by customer.

**How to read it.** `test/ndcg_at_10` answers *discover*: what will a customer buy that they have
not bought before? `test/replenish/ndcg_at_10` answers *replenish*: what will they buy, bought
before or not? Every metric has `_low` and `_high`, its 95 % interval. Only runs with the same
`dataset_digest` may be compared.

**Where to click.** [The runs, best first]({address}) · a run's *Artifacts*: plots, twenty sample
customers, the table of customers · *compare* runs: who beats whom, and for how many customers.
"""


def describe_experiment(experiment_id: str) -> None:
    """Give an experiment its description and view, once."""
    client = MlflowClient()
    tags = client.get_experiment(experiment_id).tags
    if "mlflow.note.content" not in tags:
        note = DESCRIPTION.format(address=view_address(experiment_id, host=""))
        client.set_experiment_tag(experiment_id, "mlflow.note.content", note)
    state = _encoded(view_state())
    if tags.get(f"mlflow.sharedViewState.{VIEW}") != state:
        client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{VIEW}", state)


def view_address(experiment_id: str, host: str | None = None) -> str:
    """Return the address of the ready-made view.

    Args:
        experiment_id: whose runs.
        host: of the UI; None for the tracking server, or for `make ui` where there is none.
    """
    if host is None:
        uri = mlflow.get_tracking_uri()
        host = uri if uri.startswith("http") else f"http://127.0.0.1:{os.environ.get('PORT', 5000)}"
    return (
        f"{host}/#/experiments/{experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={VIEW}"
    )


def view_state() -> dict[str, object]:
    """Return the state of the runs page, as MLflow 3.17 stores it."""
    columns = [f"metrics.`{name}`" for name in METRICS] + [f"params.`{n}`" for n in PARAMETERS]
    return {
        "searchFilter": "",
        "orderByKey": f"metrics.`{SORTED_BY}`",
        "orderByAsc": False,
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
