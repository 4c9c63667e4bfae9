"""Passwords, keys and signatures are found in nothing that is written or said.

The walk from training to a rollback, and five failures with their stack traces, against a server
with accounts on PostgreSQL and a ledger in Azurite.
"""

import base64
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pyarrow.parquet as pq
import pytest
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ResourceTypes,
    generate_account_sas,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import create_engine, inspect, text

from tests import azurite, mlflow_server, postgres
from tests.mlflow_server import ADMIN, TeamServer, free_port
from tests.registry.shop import Rules, rules

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
# A key of Azurite has 64 bytes; all else is any text, with what quoting changes in it.
ACCOUNT, KEY_BYTES = "canary", 64
REASON = "wins by a mile"
# Where each may make runs.
HOMES = {"ada": {}, "grace": {"MLFLOW_EXPERIMENT_NAME": "recommender-releases"}}
CANDIDATES = "from tests.registry.shop import candidate; [candidate(n) for n in (1, 2, 3)]"
# Modules one after the other, as if each had a process of its own.
RUNNER = """
import json, runpy, sys
for words in json.loads(sys.argv[1]):
    sys.argv, code = words, 0
    try:
        runpy.run_module(words[0], run_name="__main__")
    except SystemExit as stopped:
        code = stopped.code
    print(f"exit code {code}")
"""


def planted(name: str) -> str:
    return f"{name}+{secrets.token_hex(8)}/%="


@dataclass
class Walk:
    """What was done, and all that it left.

    Attributes:
        folder: of the processes' files.
        server: with the accounts ada, who trains, and grace, who reviews.
        variables: of the processes.
        rules: that ask for one approval.
        secrets: name → what must not be found.
        written: place → what it holds.
    """

    folder: Path
    server: TeamServer
    variables: dict[str, str]
    rules: Rules
    secrets: dict[str, bytes] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)

    def run(self, account: str, *commands: list[str], code: int = 0, **variables: str) -> str:
        """Run commands in a process of an account; returns what they said.

        Args:
            account: whose password it has.
            commands: module and options of each.
            code: that the last one must exit with; those before it succeed.
            variables: that are different from the others'.
        """
        said = self.process(account, RUNNER, json.dumps(commands), **variables)
        codes = [0] * (len(commands) - 1) + [code]
        assert re.findall(r"^exit code (.+)$", said, re.M) == [*map(str, codes)], said
        return said

    def process(self, account: str, *program: str, **variables: str) -> str:
        """Run a program of Python; returns what it said."""
        done = subprocess.run(
            [sys.executable, "-u", "-c", *program],
            cwd=ROOT,
            env=self.variables | self.server.environment(account) | HOMES[account] | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.written[f"output {len(self.written)}"] = done.stdout.encode()
        assert done.returncode == 0, done.stdout
        return done.stdout

    def promote(self, version: int) -> list[str]:
        told = ["--version", str(version), "--reason", REASON, "--traceback"]
        return ["registry.promote", *self.ruled(), *told]

    def approve(self, version: int) -> list[str]:
        told = ["--version", str(version), "--comment", "read it", "--traceback"]
        return ["registry.review", "approve", *self.ruled(), *told]

    def ruled(self) -> list[str]:
        """Return the options of a reviewer."""
        files = ["--policy", self.rules.policy, "--reviewers", self.rules.reviewers]
        return [*files, "--reviewer", "grace"]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("secrets")
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    admin = planted("admin")
    with (
        pytest.MonkeyPatch.context() as patch,
        azurite.running(folder / "azurite", ACCOUNT, key) as connection,
        postgres.running(folder / "postgres") as database,
        mlflow_server.team(folder / "server", database, admin) as server,
    ):
        ledger = f"{azurite.container(connection, patch)}/ledger"
        server.tell("roles", "--trainers", "ada", "--reviewers", "grace")
        variables = os.environ | {
            "HOME": str(folder / "home"),
            "RECSYS_LEDGER": ledger,
            "RECSYS_RELEASES": str(folder / "releases"),
            "RECSYS_KEY_PASSPHRASE": planted("passphrase"),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        }
        found = Walk(folder, server, variables, rules(folder / "rules", 1))
        _plant(found, database, key, connection)
        _walk(found, connection)
        _fail(found, connection)
        _collect(found, database, connection)
        yield found


def _plant(walk: Walk, database: str, key: str, connection: str) -> None:
    """Note all that is secret."""
    password = unquote(urlsplit(database).password or "")
    told = {"admin": walk.server.passwords[ADMIN], "database": password, "storage": key}
    told |= {account: walk.server.passwords[account] for account in ("ada", "grace")}
    told |= {f"login of {name}": f"{name}:{walk.server.passwords[name]}" for name in ("ada", ADMIN)}
    told["passphrase"] = walk.variables["RECSYS_KEY_PASSPHRASE"]
    walk.secrets |= {name: value.encode() for name, value in told.items()}


def _walk(walk: Walk, connection: str) -> None:
    """Do all that trainer and reviewer do, from the key to the rollback."""
    walk.process("ada", CANDIDATES)
    said = walk.run("grace", ["registry.review", "key", "--reviewer", "grace"])
    public = re.search(r'keys: \["(.+)"\]', said)
    assert public
    people = {"reviewers": {"grace": {"keys": [public[1]]}}}
    Path(walk.rules.reviewers).write_text(json.dumps(people))
    decided = [
        step for version in (1, 2) for step in (walk.approve(version), walk.promote(version))
    ]
    waiting = ["registry.review", "waiting", *walk.ruled()[:4]]
    walk.run("grace", *decided, waiting, walk.promote(3), code=1)
    signature = _sas(walk)
    walk.secrets["signature"] = re.findall("sig=([^&]+)", signature)[0].encode()
    walk.run(
        "grace",
        ["registry.rollback", *walk.ruled(), "--reason", "sales fell"],
        ["registry.reconcile"],
        ["registry.history", "--output", str(walk.folder / "history")],
        AZURE_STORAGE_CONNECTION_STRING=f"BlobEndpoint={azurite.endpoint(connection)}/{ACCOUNT};"
        f"SharedAccessSignature={signature}",
    )


def _sas(walk: Walk) -> str:
    """Make a signature that opens the account for an hour."""
    return generate_account_sas(
        ACCOUNT,
        walk.secrets["storage"].decode(),
        ResourceTypes(container=True, object=True),
        AccountSasPermissions(read=True, write=True, list=True, create=True, delete=True),
        datetime.now(UTC) + timedelta(hours=1),
    )


def _fail(walk: Walk, connection: str) -> None:
    """Fail in four ways, each with a wrong secret at hand and a stack trace."""
    wrong = {name: planted(name) for name in ("password", "passphrase", "in-address")}
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    walk.secrets |= {f"wrong {name}": value.encode() for name, value in wrong.items()}
    walk.secrets["wrong key"] = key.encode()
    promote, other = walk.promote(3), connection.replace(walk.secrets["storage"].decode(), key)
    address = f"http://grace:{quote(wrong['in-address'], safe='')}@127.0.0.1:{free_port()}"
    for name, value in (
        ("MLFLOW_TRACKING_PASSWORD", wrong["password"]),
        ("AZURE_STORAGE_CONNECTION_STRING", other),
        ("MLFLOW_TRACKING_URI", address),
    ):
        assert "Traceback" in walk.run("grace", promote, code=1, **{name: value})
    passphrase = {"RECSYS_KEY_PASSPHRASE": wrong["passphrase"]}
    said = walk.run("grace", walk.approve(3), code=2, **passphrase)
    assert "the passphrase is wrong" in said


def _collect(walk: Walk, database: str, connection: str) -> None:
    """Read all that was written meanwhile."""
    pem = (walk.folder / "home" / ".config" / "recsys" / "keys" / "grace.pem").read_bytes()
    key = load_pem_private_key(pem, walk.secrets["passphrase"])
    assert isinstance(key, Ed25519PrivateKey)
    walk.secrets["private key"] = key.private_bytes_raw()
    walk.secrets["locked key"] = pem.splitlines()[1]
    walk.written["server log"] = walk.server.log.read_bytes()
    walk.written["server command"] = Path(f"/proc/{walk.server.pid}/cmdline").read_bytes()
    walk.written |= {f"table {name}": data for name, data in _tables(database)}
    walk.written |= {f"ledger {name}": data for name, data in _blobs(connection)}
    for name in ("server", "releases", "history", "rules"):
        for file in (walk.folder / name).rglob("*"):
            # The admin's list of new passwords is what they are handed out from.
            if file.is_file() and not file.name.startswith("passwords-"):
                walk.written[f"file {file.relative_to(walk.folder)}"] = file.read_bytes()
                if file.suffix == ".parquet":
                    rows = json.dumps(pq.read_table(file).to_pylist(), default=str)
                    walk.written[f"rows of {file.relative_to(walk.folder)}"] = rows.encode()


def _tables(database: str) -> Iterator[tuple[str, bytes]]:
    """Read all tables of the server's database."""
    engine = create_engine(database)
    with engine.connect() as connected:
        for name in inspect(engine).get_table_names():
            rows = connected.execute(text(f'SELECT t::text FROM "{name}" t')).scalars()
            yield name, "\n".join(rows).encode()
    engine.dispose()


def _blobs(connection: str) -> Iterator[tuple[str, bytes]]:
    """Read all that lies in the storage."""
    account = BlobServiceClient.from_connection_string(connection)
    for container in account.list_containers():
        client = account.get_container_client(container.name)
        for blob in client.list_blobs():
            yield blob.name, client.download_blob(blob.name).readall()


def forms(secret: bytes) -> set[bytes]:
    """Return how a secret may be written: as it is, as in a URL, and in base64 of any text."""
    found = {secret, quote(secret, safe="").encode(), secret.hex().encode()}
    for before in range(3):
        coded = base64.b64encode(bytes(before) + secret)
        # Without the characters that depend on what stands before and after.
        found.add(coded[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6])
    return found


def places_of(walk: Walk, secret: bytes) -> list[str]:
    looked_for = forms(secret)
    return [place for place, data in walk.written.items() if any(f in data for f in looked_for)]


def test_no_secret_is_found_anywhere(walk: Walk) -> None:
    found = {name: places_of(walk, secret) for name, secret in walk.secrets.items()}
    assert {name: places for name, places in found.items() if places} == {}


def test_what_is_no_secret_is_found_in_every_kind_of_place(walk: Walk) -> None:
    kinds = {place.split()[0] for place in places_of(walk, REASON.encode())}
    assert kinds == {"output", "table", "ledger", "file", "rows"}
    assert "file history/history.html" in places_of(walk, REASON.encode())


def test_the_search_knows_every_form(walk: Walk) -> None:
    secret = b"p+ss/w%rd="
    for text_before in (b"", b"a", b"ab"):
        walk.written["control"] = base64.b64encode(text_before + secret + b"after")
        assert places_of(walk, secret) == ["control"]
    walk.written["control"] = b"http://host/?password=p%2Bss%2Fw%25rd%3D"
    assert places_of(walk, secret) == ["control"]
    del walk.written["control"]
