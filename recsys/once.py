"""Making something in MLflow once, though the answer to a call may be lost.

MLflow's client asks again where it got no good answer. The server may have done its part, and then
makes a second run or version. So what is made carries a request id, each attempt asks the server
once, and before another one the id is looked up.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags

REQUEST_TAG = "recsys.request_id"
ATTEMPTS = 5
PAUSE = 0.5
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# What an answer that never came looks like; all else is the server's own no.
LOST = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED")
T = TypeVar("T")
_asking = threading.RLock()


def made(look_up: Callable[[], T | None], make: Callable[[], T]) -> T:
    """Return what is there, or make it.

    Args:
        look_up: returns what carries the request id, None where nothing does.
        make: makes it, with the request id, in one call to the server.

    Raises:
        MlflowException: the server said no, or could not be reached again and again.
    """
    for attempt in range(ATTEMPTS):
        found = look_up()
        if found is not None:
            return found
        try:
            with _asked_once():
                return make()
        except MlflowException as error:
            if error.error_code not in LOST or attempt == ATTEMPTS - 1:
                raise
        time.sleep(PAUSE * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def run_of(experiment_id: str, request_id: str, name: str, tags: Mapping[str, str]) -> Run:
    """Return the run of a request, the oldest if there are several; makes it where there is none.

    Args:
        experiment_id: where it is, or is made.
        request_id: what tells one request from another.
        name: of the run.
        tags: of the run, beside the request id.
    """
    client = MlflowClient()

    def look_up() -> Run | None:
        found = client.search_runs(
            [experiment_id],
            f"tags.`{REQUEST_TAG}` = '{request_id}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return found[0] if found else None

    def make() -> Run:
        # Who started it, from which program and commit, as `mlflow.start_run` says it.
        known = resolve_tags({**tags, REQUEST_TAG: request_id})
        return client.create_run(experiment_id, tags=known, run_name=name)

    return made(look_up, make)


def experiment_named(name: str) -> str:
    """Return an experiment's id; makes it where there is none."""
    client = MlflowClient()

    def look_up() -> str | None:
        found = client.get_experiment_by_name(name)
        return found.experiment_id if found else None

    try:
        return made(look_up, lambda: client.create_experiment(name))
    except MlflowException:
        # Somebody else made it at the same moment.
        found = look_up()
        if found is None:
            raise
        return found


@contextmanager
def _asked_once() -> Iterator[None]:
    """Keep MLflow's client from asking again by itself."""
    # One thread at a time: another would take the zero for what was there before.
    with _asking:
        before = os.environ.get(RETRIES)
        os.environ[RETRIES] = "0"
        try:
            yield
        finally:
            if before is None:
                del os.environ[RETRIES]
            else:
                os.environ[RETRIES] = before
