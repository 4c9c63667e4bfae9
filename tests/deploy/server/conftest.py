"""A team's server, on SQLite and on PostgreSQL, with an account of each role."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests import mlflow_server, postgres
from tests.mlflow_server import TeamServer

PASSWORD = "correct-horse%battery"
ACCOUNTS = {"trainer": "ada", "reviewer": "grace", "scorer": "nightly", "analyst": "mary"}
# The second is the name that a proxy with TLS passes on.
HOSTS = ("--allowed_hosts", "127.0.0.1:*,mlflow.example.com")
ROLES = ("--trainers", "ada", "--reviewers", "grace", "--scorers", "nightly", "--analysts", "mary")


@pytest.fixture(
    scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TeamServer]:
    folder = tmp_path_factory.mktemp("team")
    database = postgres.running(folder) if request.param == "postgresql" else nullcontext("")
    with (
        database as backend,
        mlflow_server.team(folder / "home", backend, PASSWORD, *HOSTS) as server,
    ):
        server.tell("roles", *ROLES)
        yield server
