"""What a start writes, what it hands to MLflow, and what it refuses."""

import configparser
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

from deploy.server.start import (
    ACCOUNTS,
    ADMIN_PASSWORD,
    BACKEND,
    SECRET_KEY,
    StartConfig,
    prepared,
    run_start,
    shown,
)
from recsys.errors import UsageError
from tests import mlflow_server

SECRET = "s3cret%40word"
POSTGRES = f"postgresql+psycopg2://recsys:{SECRET}@127.0.0.1:1/recsys?sslpassword=hidden"
GOOD = {ADMIN_PASSWORD: "correct-horse-battery"}


def config(folder: Path, **values: Any) -> StartConfig:
    return StartConfig(home=str(folder / "home"), **values)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_its_files_are_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    prepared(config(tmp_path), GOOD)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "home").iterdir()}
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert modes.keys() >= {"basic_auth.ini", "secret_key"}
    assert {modes["basic_auth.ini"], modes["secret_key"]} == {0o600}


def test_who_has_no_grant_has_no_right_and_the_admins_password_lies_in_no_file(
    tmp_path: Path,
) -> None:
    accounts = f"sqlite:///{tmp_path / '50%.db'}"
    _, environment = prepared(config(tmp_path), GOOD | {ACCOUNTS: accounts})
    ini = configparser.ConfigParser()
    ini.read(environment["MLFLOW_AUTH_CONFIG_PATH"])
    assert ini["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert ini["mlflow"]["database_uri"] == accounts
    texts = [p.read_text() for p in (tmp_path / "home").iterdir()]
    assert not any(GOOD[ADMIN_PASSWORD] in text for text in texts)


def test_no_secret_is_in_the_command_or_in_what_is_shown(tmp_path: Path) -> None:
    known = GOOD | {BACKEND: POSTGRES, ACCOUNTS: f"sqlite:///{tmp_path / 'accounts.db'}"}
    command, environment = prepared(config(tmp_path), known)
    for secret in (SECRET, "hidden", GOOD[ADMIN_PASSWORD], environment[SECRET_KEY]):
        assert not any(secret in word for word in command)
        assert secret not in shown(POSTGRES)
    assert environment[BACKEND] == POSTGRES
    assert shown(POSTGRES) == "postgresql+psycopg2://127.0.0.1:1/recsys"


def test_a_plain_address_of_postgresql_gets_the_driver_that_is_installed(tmp_path: Path) -> None:
    plain, here = POSTGRES.replace("+psycopg2", ""), f"sqlite:///{tmp_path / 'accounts.db'}"
    _, environment = prepared(config(tmp_path), GOOD | {BACKEND: plain, ACCOUNTS: here})
    assert environment[BACKEND] == POSTGRES


def test_artifacts_go_through_the_server_and_unknown_routes_are_closed(tmp_path: Path) -> None:
    command, environment = prepared(config(tmp_path), GOOD)
    assert "--serve-artifacts" in command
    assert "--enable-workspaces" in command
    assert option(command, "--artifacts-destination") == str(tmp_path / "home" / "artifacts")
    assert environment["MLFLOW_BASIC_AUTH_FAIL_CLOSED"] == "true"


def test_a_client_s_variables_do_not_reach_the_server(tmp_path: Path) -> None:
    known = GOOD | {"MLFLOW_TRACKING_URI": "https://x", "MLFLOW_TRACKING_PASSWORD": "mine"}
    _, environment = prepared(config(tmp_path), known)
    assert not any(name.startswith("MLFLOW_TRACKING_") for name in environment)


def test_the_key_of_a_session_stays_from_start_to_start(tmp_path: Path) -> None:
    keys = {prepared(config(tmp_path), GOOD)[1][SECRET_KEY] for _ in range(2)}
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    assert prepared(config(tmp_path), GOOD | {SECRET_KEY: "own"})[1][SECRET_KEY] == "own"


@pytest.mark.parametrize(
    ("values", "hosts", "origins"),
    [
        ({}, "127.0.0.1:5000,localhost:5000", None),
        ({"host": "::1", "port": 80}, "[::1]:80,localhost:80", None),
        (
            {"host": "0.0.0.0", "allowed_hosts": "mlflow.example.com, localhost:5000"},
            "mlflow.example.com,localhost:5000",
            "https://mlflow.example.com",
        ),
    ],
)
def test_hosts_are_named_and_their_pages_may_write(
    tmp_path: Path, values: dict[str, Any], hosts: str, origins: str | None
) -> None:
    command, _ = prepared(config(tmp_path, **values), GOOD)
    assert option(command, "--allowed-hosts") == hosts
    assert ("--cors-allowed-origins" in command) == (origins is not None)
    if origins:
        assert option(command, "--cors-allowed-origins") == origins


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("", "has no password"),
        ("tiny-word", "12 characters or more"),
        ("password1234", "easily guessed"),
        ("Administrator", "easily guessed"),
        ("aaaaaaaaaaaaaaaa", "easily guessed"),
    ],
)
def test_an_admin_without_a_password_of_their_own_is_refused(
    tmp_path: Path, password: str, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem) as refused:
        prepared(config(tmp_path), {ADMIN_PASSWORD: password})
    assert not password or password not in str(refused.value)


def test_a_later_start_needs_no_password(tmp_path: Path) -> None:
    accounts = f"sqlite:///{tmp_path / 'accounts.db'}"
    store = SqlAlchemyStore()
    store.init_db(accounts)
    store.create_user("admin", GOOD[ADMIN_PASSWORD], is_admin=True)
    store.engine.dispose()
    command, _ = prepared(config(tmp_path), {ACCOUNTS: accounts})
    assert "basic-auth" in command


@pytest.mark.parametrize(
    ("values", "known", "problem"),
    [
        ({"host": "0.0.0.0"}, {}, "allowed_hosts is missing"),
        ({"host": "mlflow.example.com"}, {}, "allowed_hosts is missing"),
        ({"allowed_hosts": "*"}, {}, "any page in a browser"),
        ({"artifacts": "wasbs://c@a.blob.core.windows.net/?sig=x"}, {}, "holds a signature"),
        ({}, {BACKEND: "./mlruns"}, "no address of a database"),
        ({}, {ACCOUNTS: f"https://u:{SECRET}@x"}, "no address of a database"),
    ],
)
def test_what_would_open_the_server_too_far_is_refused(
    tmp_path: Path, values: dict[str, Any], known: dict[str, str], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem) as refused:
        prepared(config(tmp_path, **values), GOOD | known)
    assert SECRET not in str(refused.value)


def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:1/recsys, does not answer") as refused:
        prepared(config(tmp_path), {BACKEND: POSTGRES})
    assert SECRET not in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_a_start_that_others_can_reach_says_that_tls_must_stand_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setenv(ADMIN_PASSWORD, GOOD[ADMIN_PASSWORD])
    monkeypatch.setattr(os, "execve", lambda path, command, environment: started.append(command))
    monkeypatch.setattr(os, "umask", lambda mask: 0)
    run_start(config(tmp_path, host="0.0.0.0", allowed_hosts="mlflow.example.com"))
    assert "proxy that adds TLS" in capsys.readouterr().out
    assert option(started[0], "--host") == "0.0.0.0"
    run_start(config(tmp_path))
    assert "TLS" not in capsys.readouterr().out


def test_the_command_ends_before_anything_listens(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.server", "start", "--home", str(tmp_path / "home")]
    done = subprocess.run(
        command,
        env={**os.environ, BACKEND: "", ACCOUNTS: "", ADMIN_PASSWORD: "password1234"},
        capture_output=True,
        text=True,
    )
    refusal = f"error: {ADMIN_PASSWORD} is a password that is easily guessed: take another one.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", refusal)


@pytest.mark.slow
def test_after_a_restart_the_accounts_are_there_and_no_password_is_needed(tmp_path: Path) -> None:
    home, first = tmp_path / "home", GOOD[ADMIN_PASSWORD]
    with mlflow_server.team(home, "", first) as server:
        server.tell("roles", "--analysts", "mary")
        passwords = dict(server.passwords)
    with mlflow_server.team(home, "", "") as server:
        server.passwords.update(passwords)
        codes = {account: current(server, account) for account in passwords}
    assert codes == {mlflow_server.ADMIN: 200, "mary": 200}


def current(server: mlflow_server.TeamServer, account: str) -> int:
    """Ask the server who this is."""
    pair = (account, server.passwords[account])
    return requests.get(f"{server.uri}/api/2.0/mlflow/users/current", auth=pair).status_code
