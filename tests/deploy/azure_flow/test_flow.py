"""Nodes that are taken away in the middle of ALS and of scoring change nothing in the result.

Real drivers, Spark masters and workers, on nodes with disks of their own, that are killed without
notice; what they share lies in Azurite, and runs in MLflow's own server. None of all that is
written down on the way holds a key.
"""

import json
import threading
import time
from collections.abc import Callable

import pytest
from mlflow import MlflowClient

from deploy.azure_batch.following import AzureBatchRun
from deploy.azure_batch.job import work_folder
from recsys.storage import CommitLog, keys_of, store_of
from tests.batch_service.clients import until
from tests.batch_service.nodes import Node
from tests.deploy.azure_flow.conftest import ALS, K, Scene
from tests.deploy.azure_flow.written import everything
from tests.deploy.cloud import POOL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE = 300.0
# What is taken away: nodes that run a task of this name, and how many of them.
TAKEN = {"one worker": ("worker", 1), "all workers": ("worker", 2), "the driver": ("driver", 1)}


@pytest.mark.parametrize("taken", TAKEN)
def test_als_comes_to_the_same_model(
    scene: Scene, taken: str, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = f"checkpoints-{taken.replace(' ', '-')}"
    store = store_of(scene.cloud.storage)
    settings = {"factors": ALS.factors, "iterations": ALS.iterations}
    places = {"dataset": scene.url("dataset"), "checkpoints": scene.url(kept)}
    run = scene.submit("als", settings | places)

    def due() -> bool:
        return any("_commits" in key for key in keys_of(store, kept))

    follow_and_take(scene, run, due, *TAKEN[taken])
    tags = MlflowClient().get_run(run.run_id).data.tags
    assert tags["recsys.model_digest"] == scene.digest
    shown = capfd.readouterr().out
    assert ("driver 2 of this job" in shown) == (taken == "the driver")
    assert ("going on after iteration" in shown) == (taken == "the driver")


@pytest.mark.parametrize("taken", TAKEN)
def test_scoring_publishes_the_same_table_once(scene: Scene, taken: str) -> None:
    name = f"table-{taken.replace(' ', '-')}"
    store = store_of(scene.cloud.storage)
    places = {"interactions": scene.url("ingested"), "output": scene.url(name)}
    run = scene.submit("batch_score", places | {"k": K, "slot": "today"})

    def due() -> bool:
        return any("/blocks/" in key for key in keys_of(store, name))

    follow_and_take(scene, run, due, *TAKEN[taken])
    assert scene.rows_of(name) == scene.rows
    assert len(CommitLog(store_of(scene.url(name))).history()) == 1


def follow_and_take(
    scene: Scene, run: AzureBatchRun, due: Callable[[], bool], role: str, count: int
) -> None:
    """Follow a run, take nodes away when it is due, and see that it ends well and cleanly."""
    ended: list[bool] = []
    follower = threading.Thread(target=lambda: ended.append(run.wait()))
    follower.start()
    end = time.monotonic() + PATIENCE
    while not due():
        assert follower.is_alive(), "it ended before a node was taken away"
        assert time.monotonic() < end
        time.sleep(0.05)
    victims = nodes(scene, role)[:count]
    assert len(victims) == count
    for node in victims:
        scene.cloud.service.preempt(POOL, node.id)
    follower.join(PATIENCE)
    assert ended == [True]
    assert MlflowClient().get_run(run.run_id).info.status == "FINISHED"
    # A node that comes back may be at its start task still.
    until(lambda: scene.cloud.service.running() == [], PATIENCE)
    left = keys_of(store_of(work_folder(scene.cloud.storage, run.job_id)), "")
    assert not left, "what the tasks shared is left"


def nodes(scene: Scene, role: str) -> list[Node]:
    """Return the nodes that run the driver or a worker now."""
    return [
        node
        for node in scene.cloud.service.pools[POOL].nodes.values()
        if any(task.id.startswith(role) for task in node.runs.values())
    ]


def test_no_key_is_staged_logged_or_recorded(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    run = scene.submit("popularity", {"dataset": scene.url("dataset")})
    assert run.wait()
    places = dict(everything(scene)) | {"the terminal": "".join(capfd.readouterr()).encode()}
    assert len(places) > 100
    # The search itself works: what every node may read is found.
    assert any(run.job_id.encode() in data for data in places.values())
    for key in scene.keys:
        # In JSON and in URLs a key's letters are written in other ways, too.
        spellings = {key, json.dumps(key)[1:-1], key.replace("/", "%2F").replace("+", "%2B")}
        for spelling in spellings:
            found = [name for name, data in places.items() if spelling.encode() in data]
            assert not found
