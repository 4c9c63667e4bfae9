"""Accounts and roles on a running server: made once, repaired, and kept secret."""

import stat
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient
from mlflow.server.auth.client import AuthServiceClient

from deploy.server.accounts import RolesConfig, run_roles
from recsys.errors import UsageError
from tests.deploy.server.conftest import ROLES
from tests.mlflow_server import ADMIN, TeamServer

READ = "api/2.0/mlflow/experiments/search?max_results=1"


def sign_in(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment(ADMIN).items():
        monkeypatch.setenv(name, value)


def answer(server: TeamServer, account: str, password: str = "", **headers: str) -> int:
    pair = (account, password or server.passwords[account])
    return requests.get(f"{server.uri}/{READ}", auth=pair, headers=headers).status_code


def search_runs(server: TeamServer, origin: str) -> int:
    """Send what MLflow's page sends when it lists runs."""
    return requests.post(
        f"{server.uri}/ajax-api/2.0/mlflow/runs/search",
        json={"experiment_ids": ["1"]},
        auth=("mary", server.passwords["mary"]),
        headers={"Origin": origin},
    ).status_code


def test_a_second_call_changes_nothing(server: TeamServer) -> None:
    known = dict(server.passwords)
    assert server.tell("roles", *ROLES) == "Nothing to change.\n"
    assert server.passwords == known
    assert {answer(server, account) for account in known} == {200}


def test_a_call_takes_rights_that_a_role_does_not_give(
    server: TeamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(server, monkeypatch)
    client = AuthServiceClient(server.uri)
    roles = {role.name: role.id for role in client.list_roles("default")}
    client.grant_user_permission("ada", "registered_model", "recommender", "MANAGE")
    client.assign_role("ada", roles["recommender-reviewer"])
    client.add_role_permission(roles["recommender-analyst"], "registered_model", "*", "EDIT")
    found = {
        right.resource_pattern: right
        for right in client.list_role_permissions(roles["recommender-scorer"])
    }
    client.update_role_permission(found["recommender"].id, "MANAGE")
    said = server.tell("roles", *ROLES).splitlines()
    assert sorted(said) == [
        "account ada: MANAGE on registered_model recommender taken",
        "account ada: role reviewer taken",
        "role analyst: EDIT on registered_model * taken",
        "role scorer: READ on registered model recommender instead of MANAGE",
    ]
    assert server.tell("roles", *ROLES) == "Nothing to change.\n"


def test_a_deleted_experiment_comes_back(
    server: TeamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(server, monkeypatch)
    client = MlflowClient(server.uri)
    scoring = client.get_experiment_by_name("recommender-scoring")
    assert scoring is not None
    client.delete_experiment(scoring.experiment_id)
    assert server.tell("roles") == "experiment recommender-scoring: restored\n"


def test_accounts_come_change_their_password_and_go(server: TeamServer) -> None:
    said = server.tell("roles", "--analysts", "joan")
    old = server.passwords["joan"]
    assert said == "account joan: made\naccount joan: role analyst given\n"
    assert answer(server, "joan") == 200
    assert server.tell("password", "--account", "joan") == "joan: new password\n"
    assert server.passwords["joan"] != old
    assert (answer(server, "joan", old), answer(server, "joan")) == (401, 200)
    assert server.tell("roles", "--remove", "joan") == "account joan: removed\n"
    assert answer(server, "joan") == 401


def test_an_admin_changes_their_own_password(server: TeamServer) -> None:
    old = server.passwords[ADMIN]
    server.tell("password", "--account", ADMIN)
    assert (answer(server, ADMIN, old), answer(server, ADMIN)) == (401, 200)


def test_what_is_asked_for_by_no_admin_is_refused(
    server: TeamServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        server.tell("roles", "--analysts", "eve", by="ada")
    assert left.value.code == 2
    refusal = "error: ada is no admin: set MLFLOW_TRACKING_USERNAME to one.\n"
    assert capsys.readouterr().err == refusal
    assert answer(server, "eve", "any-password") == 401


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "not-the-admin's", "does not know admin with this password"),
        ("MLFLOW_TRACKING_PASSWORD", "", "to an admin's"),
        ("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db", "names no server"),
        ("MLFLOW_TRACKING_URI", "http://mlflow.example.com", "by https"),
    ],
)
def test_credentials_that_do_not_serve_are_refused(
    server: TeamServer, monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    for known, own in (server.environment(ADMIN) | {name: value}).items():
        monkeypatch.setenv(known, own)
    with pytest.raises(UsageError, match=problem):
        run_roles(RolesConfig(analysts="eve"))


def test_an_admin_gets_no_role(server: TeamServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(server, monkeypatch)
    with pytest.raises(UsageError, match="admin is an admin"):
        run_roles(RolesConfig(analysts=ADMIN))


def test_nobody_is_trainer_and_reviewer() -> None:
    with pytest.raises(UsageError, match="ada: an account has one role"):
        RolesConfig(trainers="ada,ben", reviewers="grace,ada").roles()


def test_passwords_are_not_written_over(
    server: TeamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(server, monkeypatch)
    kept = tmp_path / "passwords"
    kept.write_text("ben: kept\n")
    with pytest.raises(UsageError, match="name a new file"):
        run_roles(RolesConfig(analysts="ben", passwords=str(kept)))
    assert kept.read_text() == "ben: kept\n"


def test_no_password_is_to_be_seen(server: TeamServer) -> None:
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _alive(path)]
    log = server.log.read_text()
    for account, password in server.passwords.items():
        seen = [line for line in commands if password.encode() in line]
        assert (account, seen, password in log) == (account, [], False)
    for file in server.home.rglob("*"):
        if file.is_file():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("mlflow.example.com", 200),
        ("127.0.0.1:9", 200),
        ("evil.example", 403),
        ("10.evil.example", 403),
        ("localhost", 403),
        ("mlflow.example.com.evil.example", 403),
    ],
)
def test_only_named_hosts_are_answered(server: TeamServer, host: str, code: int) -> None:
    assert answer(server, ADMIN, Host=host) == code


def test_a_page_of_its_own_may_write_and_a_strange_one_may_not(server: TeamServer) -> None:
    assert search_runs(server, "https://mlflow.example.com") == 200
    assert search_runs(server, "https://evil.example") == 403


def test_a_strange_host_learns_nothing_even_without_a_password(server: TeamServer) -> None:
    told = requests.get(f"{server.uri}/{READ}", headers={"Host": "evil.example"})
    assert (told.status_code, "Host" in told.text) == (403, True)


def _alive(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False
