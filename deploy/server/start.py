"""Start MLflow's server with accounts: what it is given, and what it is refused."""

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from pydantic import Field
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from deploy.server.secrecy import check_password, kept_key, private_folder, write_private
from recsys.config import Config
from recsys.errors import UsageError
from recsys.progress import say

BACKEND = "MLFLOW_BACKEND_STORE_URI"
ACCOUNTS = "RECSYS_AUTH_DATABASE_URI"
SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"
ADMIN = "MLFLOW_AUTH_ADMIN_USERNAME"
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
# Of a client in the same shell; the server is none.
CLIENTS = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
# A call costs several slow hashes of its password. MLflow may remember that one was right for so
# long, which is also how long a changed password or a removed account still works.
REMEMBERED_SECONDS = 10
DATABASES = ("postgresql", "sqlite", "mysql", "mssql")


class StartConfig(Config):
    """Where the server listens and what it keeps where."""

    home: str = Field(description="folder of its own files, for its owner alone")
    host: str = Field("127.0.0.1", description="address to listen on; TLS must stand before others")
    port: int = Field(5000, ge=1, le=65535, description="port to listen on")
    allowed_hosts: str | None = Field(
        None,
        description="names by which clients may call it, mlflow.example.com,10.0.0.5:5000; "
        "none: its own address, which must then be this machine's",
    )
    artifacts: str | None = Field(
        None,
        description="where artifacts lie, such as wasbs://CONTAINER@ACCOUNT.blob.core.windows.net; "
        "none: the folder artifacts in its home",
    )
    workers: int = Field(2, ge=1, description="processes that answer")


def run_start(config: StartConfig) -> NoReturn:
    """Start MLflow's server with accounts, and serve until it is stopped.

    MLFLOW_BACKEND_STORE_URI names the database of runs and models (default: SQLite in `home`),
    RECSYS_AUTH_DATABASE_URI the one of accounts (default: the same). The first start makes the
    admin, with the password in MLFLOW_AUTH_ADMIN_PASSWORD; later ones do not need it.

    Raises:
        UsageError: a password is missing or weak, or a parameter would open the server too far.
    """
    command, environment = prepared(config, os.environ)
    hosts = command[command.index("--allowed-hosts") + 1]
    say(f"MLflow's server on {config.host}:{config.port}, called by the names {hosts}.")
    say(f"  runs and models: {shown(environment[BACKEND])}")
    if not _is_loopback(config.host):
        say("  It speaks HTTP: let only a proxy that adds TLS reach this address.")
    # Whatever the server writes, its databases too, is its owner's alone.
    os.umask(0o077)
    # The same process goes on as the server, so that a supervisor's signals reach it.
    os.execve(command[0], command, environment)


def prepared(config: StartConfig, known: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Write the server's files, and return its command and its environment.

    No password is in the command, which everybody on the machine can see.

    Args:
        config: what was asked for.
        known: the environment.
    """
    home = Path(config.home).absolute()
    hosts = _allowed_hosts(config)
    if config.artifacts and "?" in config.artifacts:
        raise UsageError("artifacts holds a signature: give Azure's variables in the environment.")
    backend = _database(known.get(BACKEND) or f"sqlite:///{home / 'mlflow.db'}", BACKEND)
    accounts = _database(known.get(ACCOUNTS) or backend, ACCOUNTS)
    admin, password = known.get(ADMIN) or "admin", known.get(ADMIN_PASSWORD)
    if not _has_account(accounts, admin) and not password:
        raise UsageError(f"The admin has no password: set {ADMIN_PASSWORD} for the first start.")
    if password:
        check_password(password, ADMIN_PASSWORD)
    private_folder(home)
    rights = home / "basic_auth.ini"
    write_private(rights, _rights(accounts, admin))
    environment = {name: value for name, value in known.items() if name not in CLIENTS}
    environment |= {
        BACKEND: backend,
        SECRET_KEY: known.get(SECRET_KEY) or kept_key(home / "secret_key"),
        "MLFLOW_AUTH_CONFIG_PATH": str(rights),
        # A route that MLflow has no rule for is closed.
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", config.host, "--port", str(config.port), "--workers", str(config.workers)]
    command += ["--allowed-hosts", ",".join(hosts)]
    if origins := _origins(hosts):
        command += ["--cors-allowed-origins", ",".join(origins)]
    command += ["--serve-artifacts"]
    command += ["--artifacts-destination", config.artifacts or str(home / "artifacts")]
    # With workspaces MLflow asks for a right to make experiments and models; without, all may.
    command += ["--enable-workspaces"]
    return command, environment


def shown(database: str) -> str:
    """Return a database's address without account, password and options."""
    url = make_url(database)
    return URL.create(
        url.drivername, None, None, url.host, url.port, url.database
    ).render_as_string()


def _rights(accounts: str, admin: str) -> str:
    """Write MLflow's configuration of accounts; who has no grant has no right."""
    values = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": accounts,
        "admin_username": admin,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "grant_default_workspace_access": "false",
        "auth_cache_ttl_seconds": str(REMEMBERED_SECONDS),
    }
    # configparser takes a single % for the start of a reference.
    lines = (f"{name} = {value.replace('%', '%%')}" for name, value in values.items())
    return "\n".join(["[mlflow]", *lines, ""])


def _allowed_hosts(config: StartConfig) -> list[str]:
    """Return the names in a Host header that are answered."""
    names = [name.strip() for name in (config.allowed_hosts or "").split(",") if name.strip()]
    if "*" in names:
        raise UsageError("allowed_hosts=* lets any page in a browser call the server: name hosts.")
    if not names and not _is_loopback(config.host):
        raise UsageError(
            f"allowed_hosts is missing: with host={config.host} name what clients call the server, "
            "such as mlflow.example.com."
        )
    return names or [f"{_bracketed(config.host)}:{config.port}", f"localhost:{config.port}"]


def _origins(hosts: list[str]) -> list[str]:
    """Return the UI's own origins behind TLS, from which MLflow would refuse what writes."""
    here = ("localhost", "127.0.0.1", "[::1]")
    return [f"https://{name}" for name in hosts if not name.startswith(here)]


def _database(uri: str, name: str) -> str:
    """Return a database's address with the driver that is installed.

    Raises:
        UsageError: it is no SQL database. The words leave out the address: it may hold a password.
    """
    try:
        backend = make_url(uri).get_backend_name()
    except ArgumentError:
        backend = ""
    if backend not in DATABASES:
        raise UsageError(
            f"{name} is no address of a database: give postgresql://USER:PASSWORD@HOST/NAME or "
            "sqlite:////PATH."
        )
    return re.sub("^postgresql://", "postgresql+psycopg2://", uri)


def _has_account(database: str, name: str) -> bool:
    """Tell whether the database of accounts knows a name; raises UsageError if it cannot tell."""
    url = make_url(database)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return False
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("users"):
                return False
            asked = text("SELECT 1 FROM users WHERE username = :name")
            return connection.execute(asked, {"name": name}).first() is not None
    except SQLAlchemyError as error:
        raise UsageError(
            f"The database of accounts, {shown(database)}, does not answer "
            f"({type(error).__name__}): start it, or mend {ACCOUNTS} or {BACKEND}."
        ) from None
    finally:
        engine.dispose()


def _is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    """Write an IPv6 address as a Host header has it."""
    return f"[{host}]" if ":" in host else host
