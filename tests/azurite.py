"""Azurite, Microsoft's own emulator of Blob storage, as a process of the tests."""

import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient

VERSION = "3.35.0"
ACCOUNT = "devstoreaccount1"
# Published in Microsoft's documentation, the same for every emulator.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
HOME = Path(__file__).resolve().parent.parent / ".venv" / "azurite"
ORDER = Path(__file__).resolve().with_name("azurite_order.js")


def program() -> Path:
    """Return the emulator, installed by npm where it is missing; skips the test without npm."""
    found = HOME / "node_modules" / ".bin" / "azurite-blob"
    if found.exists():
        return found
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm (Debian: apt-get install npm) to install azurite")
    command = [npm, "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund"]
    subprocess.run([*command, "--prefix", str(HOME), f"azurite@{VERSION}"], check=True)
    return found


@contextmanager
def running(folder: Path, account: str = ACCOUNT, key: str = KEY) -> Iterator[str]:
    """Start Azurite with one account on a free port of this machine; yields a connection string."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program(), "--blobHost", "127.0.0.1", "--blobPort", port, "-l", folder]
    command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    process = subprocess.Popen(
        [str(word) for word in command],
        env=os.environ
        | {"NODE_OPTIONS": f"--require {json.dumps(str(ORDER))}"}
        | {"AZURITE_ACCOUNTS": f"{account}:{key}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, port)
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{account};"
        )
    finally:
        process.terminate()
        process.wait(20)


def endpoint(connection: str) -> str:
    """Return http://host:port of a connection string."""
    return connection.split("BlobEndpoint=")[1].rstrip(";").rsplit("/", 1)[0]


def container(connection: str, patch: pytest.MonkeyPatch) -> str:
    """Make a container and let this process's stores find the emulator; returns its URL."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    BlobServiceClient.from_connection_string(connection).create_container(name)
    if f"AccountKey={KEY};" in connection:
        patch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
        patch.setenv("AZURITE_BLOB_STORAGE_URL", endpoint(connection))
    else:
        patch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    return f"az://{name}"


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until the emulator answers."""
    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError(f"azurite ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("azurite does not answer")


def environment() -> dict[str, str]:
    """Return what a child process needs to find the same emulator."""
    return {name: os.environ[name] for name in os.environ if name.startswith("AZUR")}
