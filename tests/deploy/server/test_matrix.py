"""Who may call what. A letter may (200), a dash may not (403): Trainer, Reviewer, Scorer, Analyst.

Without a password, and with a wrong one, every call is refused with 401.
"""

import re
from collections.abc import Mapping
from itertools import product

import pytest

from tests.deploy.server.conftest import ACCOUNTS
from tests.deploy.server.endpoints import (
    EXPERIMENTS,
    MODELS,
    SERVER,
    Call,
    Caller,
    Place,
    made,
    registered,
)
from tests.mlflow_server import ADMIN, TeamServer

LETTERS = {role[0].upper(): role for role in ACCOUNTS}

ON_EXPERIMENTS = """
                             recsys    recommender-releases    recommender-scoring
find it by name              T R - A   T R S A                 - - S A
read a run                   T R - A   T R S A                 - - S A
list a run's files           T R - A   T R S A                 - - S A
list files of the store      T R - A   T R S A                 - - S A
fetch a file                 T R - A   T R S A                 - - S A
read a logged model          T R - A   T R S A                 - - S A
describe it                  T - - -   - R - -                 - - S -
create a run                 T - - -   - R - -                 - - S -
log metrics and parameters   T - - -   - R - -                 - - S -
log a dataset                T - - -   - R - -                 - - S -
tag a run                    T - - -   - R - -                 - - S -
end a run                    T - - -   - R - -                 - - S -
upload a file                T - - -   - R - -                 - - S -
create a logged model        T - - -   - R - -                 - - S -
finalize a logged model      T - - -   - R - -                 - - S -
delete a file                - - - -   - - - -                 - - - -
delete a logged model        - - - -   - - - -                 - - - -
delete a run                 - - - -   - - - -                 - - - -
delete it                    - - - -   - - - -                 - - - -
"""

ON_MODELS = """
                             recommender-candidates   recommender
read it                      T R - A                  T R S A
read a version               T R - A                  T R S A
read the alias               T R - A                  T R S A
find its files               T R - A                  T R S A
register a version           T - - -                  - R - -
describe a version           T - - -                  - R - -
tag a version                T - - -                  - R - -
move a stage                 T - - -                  - R - -
move an alias                T - - -                  - R - -
take an alias away           - - - -                  - - - -
take a tag away              - - - -                  - - - -
delete a version             - - - -                  - - - -
delete it                    - - - -                  - - - -
"""

ON_THE_SERVER = """
                             recommender
open the UI                  T R S A
search experiments           T R S A
search versions              T R S A
create an experiment         - - - -
create a registered model    - - - -
create an account            - - - -
list accounts                - - - -
change another's password    - - - -
become an admin              - - - -
give oneself a role          - - - -
give oneself a right         - - - -
create a webhook             - - - -
"""


def rows(table: str) -> list[tuple[str, dict[str, str]]]:
    """Read a table: a row's call, and place → letters and dashes."""
    head, *lines = table.strip("\n").splitlines()
    names, starts = head.split(), [word.start() for word in re.finditer(r"\S+", head)]
    ends = [*starts[1:], None]
    cells = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines]
    calls = [line[: starts[0]].strip() for line in lines]
    return [(c, dict(zip(names, cell, strict=True))) for c, cell in zip(calls, cells, strict=True)]


def expected(table: str) -> dict[tuple[str, str, str], int]:
    """Return call, place, role → the code."""
    return {
        (call, place, role): 200 if letter in marks else 403
        for call, places in rows(table)
        for place, marks in places.items()
        for letter, role in LETTERS.items()
    }


def callers(server: TeamServer) -> dict[str, Caller]:
    return {
        role: Caller.of(server.uri, (account, server.passwords[account]))
        for role, account in ACCOUNTS.items()
    }


@pytest.fixture(scope="module")
def places(server: TeamServer) -> Mapping[str, Place]:
    """The experiments and models, each with something in it."""
    admin = Caller.of(server.uri, (ADMIN, server.passwords[ADMIN]))
    runs, releases, scoring = (
        made(admin, name) for name in ("recsys", "recommender-releases", "recommender-scoring")
    )
    candidates = registered(admin, "recommender-candidates", runs)
    models = (candidates, registered(admin, "recommender", releases))
    return {place.name: place for place in (runs, releases, scoring, *models)}


@pytest.mark.parametrize(
    ("table", "calls"),
    [(ON_EXPERIMENTS, EXPERIMENTS), (ON_MODELS, MODELS), (ON_THE_SERVER, SERVER)],
    ids=["experiments", "models", "server"],
)
class TestMatrix:
    def test_a_role_may_what_the_table_says_and_nothing_else(
        self,
        server: TeamServer,
        places: Mapping[str, Place],
        table: str,
        calls: Mapping[str, Call],
    ) -> None:
        wanted = expected(table)
        by = callers(server)
        found = {
            (call, place, role): calls[call](by[role], places[place]).status_code
            for call, place, role in wanted
        }
        assert {key: code for key, code in found.items() if code != wanted[key]} == {}
        assert set(calls) == {call for call, _, _ in wanted}

    def test_nobody_gets_in_without_the_password(
        self,
        server: TeamServer,
        places: Mapping[str, Place],
        table: str,
        calls: Mapping[str, Call],
    ) -> None:
        strangers = [Caller.of(server.uri, None), Caller.of(server.uri, ("ada", "not-ada's-word"))]
        once = {call: next(iter(marks)) for call, marks in rows(table)}
        codes = {
            (call, who): calls[call](stranger, places[place]).status_code
            for (call, place), (who, stranger) in product(once.items(), enumerate(strangers))
        }
        assert set(codes.values()) == {401}


def test_searches_show_only_what_may_be_read(
    server: TeamServer, places: Mapping[str, Place]
) -> None:
    seen = {}
    ids = [place.experiment_id for place in places.values()]
    for role, caller in callers(server).items():
        runs = caller.send("api/2.0/mlflow/runs/search", experiment_ids=ids).json().get("runs", [])
        models = caller.get("api/2.0/mlflow/registered-models/search").json()
        experiments = {run["info"]["experiment_id"] for run in runs}
        seen[role] = (
            {name for name, p in places.items() if p.experiment_id in experiments}
            - {"recommender", "recommender-candidates"},
            {model["name"] for model in models.get("registered_models", [])},
        )
    both = {"recommender", "recommender-candidates"}
    assert seen == {
        "trainer": ({"recsys", "recommender-releases"}, both),
        "reviewer": ({"recsys", "recommender-releases"}, both),
        "scorer": ({"recommender-releases", "recommender-scoring"}, {"recommender"}),
        "analyst": ({"recsys", "recommender-releases", "recommender-scoring"}, both),
    }


def test_a_version_cannot_borrow_a_model_that_its_author_may_not_read(
    server: TeamServer, places: Mapping[str, Place]
) -> None:
    hidden, mine = places["recommender-scoring"], places["recommender-candidates"]
    borrowed = Place(mine.name, "", hidden.run_id, hidden.model_id, "")
    by = callers(server)["trainer"]
    assert MODELS["register a version"](by, borrowed).status_code == 403


@pytest.mark.parametrize("disguise", ["/../{id}", "%2e%2e/{id}", "//{id}"])
def test_a_path_in_disguise_opens_no_other_experiment(
    server: TeamServer, places: Mapping[str, Place], disguise: str
) -> None:
    mine, hidden = places["recsys"], places["recommender-scoring"]
    start = mine.location.split(f"/{mine.experiment_id}/")[0]
    path = hidden.location.replace(
        f"{start}/{hidden.experiment_id}",
        f"{start}/{mine.experiment_id}/" + disguise.format(id=hidden.experiment_id),
    )
    by = callers(server)["trainer"]
    assert by.file(f"{path}/dossier.html", "GET").status_code in (400, 403, 404)
