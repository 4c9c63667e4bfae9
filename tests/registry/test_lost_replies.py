"""Answers that get lost between MLflow's server and us: all succeeds, and nothing is made twice.

A proxy before a real server passes a call on, and then answers 503 (`late`) or cuts the connection
(`lost`). MLflow's client asks again. What the whole flow leaves behind is counted, and compared
with what it leaves where no answer got lost.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from deploy.cluster.scheduled_run import open_run
from recsys import once, tracking
from recsys.search.goal import Goal
from recsys.search.record import Record
from recsys.search.space import Parameter, Range, Space
from registry.ledger import STAGES, Ledger
from registry.promote import PromoteConfig, run_promote
from registry.reconcile import ReconcileConfig, run_reconcile
from registry.releases import candidates_of, versions_of
from registry.rollback import RollbackConfig, run_rollback
from tests import faulty_proxy, mlflow_server
from tests.faulty_proxy import Fault, Proxy
from tests.registry.shop import candidate

EVER = 1_000_000
KINDS = ("late", "lost")
SPACE = Space({"als": (Parameter("alpha", Range(1, 10)),)})
# Every call that changes something on the server: method, and what its path ends in.
CHANGES = (
    ("PATCH", "logged-models/*"),
    ("PATCH", "model-versions/update"),
    ("POST", "experiments/create"),
    ("POST", "experiments/set-experiment-tag"),
    ("POST", "logged-models"),
    ("POST", "model-versions/create"),
    ("POST", "model-versions/set-tag"),
    ("POST", "model-versions/transition-stage"),
    ("POST", "registered-models/alias"),
    ("POST", "registered-models/create"),
    ("POST", "registered-models/set-tag"),
    ("POST", "runs/create"),
    ("POST", "runs/log-batch"),
    ("POST", "runs/outputs"),
    ("POST", "runs/set-tag"),
    ("POST", "runs/update"),
    ("PUT", "artifacts/*"),
)
# What only asks, by POST because it asks for much.
SEARCHES = {("POST", f"{what}/search") for what in ("experiments", "logged-models", "runs")}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("server")
    before = mlflow.get_tracking_uri()
    with (
        pytest.MonkeyPatch.context() as patch,
        mlflow_server.running(folder / "mlflow.db", str(folder / "artifacts")) as uri,
        faulty_proxy.before(uri) as proxy,
    ):
        patch.setenv("RECSYS_LEDGER", str(folder / "ledger"))
        # As often as usual, but without a pause.
        for name in ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER"):
            patch.setenv(name, "0")
        patch.setattr(once, "PAUSE", 0.01)
        mlflow.set_tracking_uri(f"http://127.0.0.1:{proxy.port}")
        yield proxy
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def short(proxy: Proxy) -> dict[str, Any]:
    """What a promotion leaves, and all before it."""
    return flow("short", 1)


@pytest.fixture(scope="module")
def whole(proxy: Proxy) -> dict[str, Any]:
    """What the whole flow leaves."""
    return flow("whole")


def flow(name: str, candidates: int = 2) -> dict[str, Any]:
    """Search, train, compare, promote; with two candidates roll back and reconcile as well.

    Args:
        name: of the registered model; also tells one flow's experiments from another's.
        candidates: how many are made and promoted.

    Returns:
        What is left under the name.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_EXPERIMENT_NAME", f"{name}-training")
        with tracking.step_run("search", "search", {}) as parent:
            for number in (0, 1):
                Record(parent, SPACE, Goal("m")).begun(number, {"als.alpha": 2.0})
        open_run("nightly", f"{name}-job")
        for number in range(1, candidates + 1):
            version = candidate(number, name)
            run_promote(PromoteConfig(model_name=name, version=version, reviewer="rosa"))
        if candidates > 1:
            run_rollback(RollbackConfig(model_name=name, reason="sales fell", reviewer="rosa"))
            MlflowClient().set_registered_model_alias(name, "production", "2")
            run_reconcile(ReconcileConfig(model_name=name, repair=True))
    return left_by(name)


def left_by(name: str) -> dict[str, Any]:
    """Count all that a flow has left under a name."""
    client = MlflowClient()
    places = {e.experiment_id: e.name.removeprefix(name) for e in client.search_experiments()}
    ours = [i for i, place in places.items() if place in ("-training", "-releases")]
    runs = [client.get_run(run.info.run_id) for run in client.search_runs(ours)]
    models = client.search_logged_models(ours)
    releases = versions_of(name)
    return {
        "experiments": sorted(places[i] for i in ours),
        "runs": Counter(
            (places[r.info.experiment_id], r.info.run_name.removeprefix(name), r.info.status)
            for r in runs
        ),
        "models": Counter((places[m.experiment_id], str(m.status)) for m in models),
        "candidates": sorted(int(v.version) for v in versions_of(candidates_of(name))),
        "releases": {int(v.version): v.current_stage for v in releases},
        "requests": len({v.tags[once.REQUEST_TAG] for v in releases}),
        "alias": int(client.get_model_version_by_alias(name, "production").version),
        "generations": {s: [g.record.version for g in Ledger(name, s).history()] for s in STAGES},
    }


def endpoint(method: str, path: str) -> tuple[str, str]:
    """Return what kind of call a request is."""
    called = path.partition("?")[0].split("/mlflow", 1)[-1].lstrip("/")
    called = re.sub(r"^-artifacts/artifacts/.*", "artifacts/*", called)
    return method, re.sub(r"m-[0-9a-f]{32}", "*", called)


def path_of(called: str) -> str:
    """Return the regular expression of an endpoint's paths."""
    return "/" + re.escape(called).replace(r"\*", "[^?]+") + r"(\?|$)"


def spoiled(proxy: Proxy, fault: Fault, name: str, candidates: int = 2) -> dict[str, Any]:
    """Run the flow while answers get lost."""
    proxy.fault = fault
    try:
        return flow(name, candidates)
    finally:
        proxy.fault = None


def test_every_answer_may_be_lost_once(proxy: Proxy, short: dict[str, Any]) -> None:
    """The second try of each call, or what is called instead of one, gets its answer."""
    fault = Fault("/mlflow", "late", EVER, method="", every=2)
    assert spoiled(proxy, fault, "quick", 1) == short
    assert fault.seen > 100


def test_an_undisturbed_flow_leaves_what_it_should(short: dict[str, Any]) -> None:
    training, releases = "-training", "-releases"
    assert short == {
        "experiments": [releases, training],
        "runs": {
            (training, "search", "FINISHED"): 1,
            (training, "trial 000", "RUNNING"): 1,
            (training, "trial 001", "RUNNING"): 1,
            (training, "nightly", "RUNNING"): 1,
            (training, "als 1", "FINISHED"): 1,
            (training, "compare", "FINISHED"): 1,
            (training, "promote", "FINISHED"): 1,
            (releases, "-candidates 1", "FINISHED"): 1,
        },
        "models": {(training, "READY"): 1, (releases, "READY"): 1},
        "candidates": [1],
        "releases": {1: "Production"},
        "requests": 1,
        "alias": 1,
        "generations": {"Staging": [], "Production": [1], "Archived": []},
    }


@pytest.mark.slow
@pytest.mark.parametrize("spared", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_half_of_all_answers_may_be_lost(
    proxy: Proxy, whole: dict[str, Any], kind: str, spared: int
) -> None:
    fault = Fault("/mlflow", kind, EVER, method="", spared=spared, every=2)
    assert spoiled(proxy, fault, f"half-{kind}-{spared}") == whole
    assert fault.seen > 300


@pytest.mark.slow
@pytest.mark.parametrize(("method", "called"), CHANGES)
def test_several_answers_to_one_kind_of_call_may_be_lost(
    proxy: Proxy, short: dict[str, Any], method: str, called: str
) -> None:
    """The first three in a row are: also the second try of a call that is tried again."""
    name = f"{method}-{re.sub('[^a-z]', '-', called)}"
    fault = Fault(path_of(called), "lost", 3, method)
    assert spoiled(proxy, fault, name, 1) == short
    assert fault.seen


@pytest.mark.slow
def test_all_that_the_flow_changes_is_spoiled_here(proxy: Proxy) -> None:
    proxy.asked.clear()
    flow("watched")
    asked = {endpoint(*request) for request in proxy.asked}
    assert {e for e in asked if e[0] != "GET"} - SEARCHES == set(CHANGES)
