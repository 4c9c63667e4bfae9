"""PostgreSQL, the real one, as a process of the tests."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

DEBIAN = Path("/usr/lib/postgresql")
INSTALL = "apt-get install -y postgresql"
# It refuses to run as root.
SERVANTS = ("postgres", "nobody")
USER, NAME = "recsys", "recsys"
# Nothing here outlives a test, so nothing need reach the disk.
HASTY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
PATIENCE = 30.0


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL on a free port of this machine.

    Args:
        folder: for its log. Its data lie in a short-lived folder of their own: whom it runs as
            cannot enter a test's folder, whose name may also be too long for a socket.

    Yields:
        The address of an empty database, with a password that needs quoting.
    """
    programs, owner = _programs(), _servant()
    password = f"{secrets.token_hex(8)}@/%:é"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "postgres.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        home = Path(name)
        data, secret = home / "data", home / "password"
        secret.write_text(password)
        for path in (home, secret):
            shutil.chown(path, owner or os.geteuid())
        start = ["-D", data, "-U", USER, "--pwfile", secret, "-A", "scram-sha-256", "-E", "UTF8"]
        _run([programs / "initdb", *start, "--no-sync"], owner)
        options = [f"-c{option}" for option in HASTY]
        options += ["-clisten_addresses=127.0.0.1", f"-cport={port}"]
        options += [f"-cunix_socket_directories={home}", "-cmax_connections=200"]
        command = [str(word) for word in (programs / "postgres", "-D", data, *options)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, cwd="/", **_identity(owner)
            )
        try:
            _wait(process, port, log)
            known = ["-h", "127.0.0.1", "-p", str(port), "-U", USER]
            environment = os.environ | {"PGPASSWORD": password}
            _run([programs / "createdb", *known, NAME], None, environment)
            yield f"postgresql+psycopg2://{USER}:{quote(password, safe='')}@127.0.0.1:{port}/{NAME}"
        finally:
            # It ends its clients' sessions and itself; at SIGTERM it would wait for the clients.
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs, installed by Debian's package where missing."""
    for attempt in range(2):
        found = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
        on_path = shutil.which("postgres")
        if found or on_path:
            return found[-1].parent if found else Path(str(on_path)).parent
        if attempt or os.geteuid() != 0 or not shutil.which("apt-get"):
            break
        subprocess.run(INSTALL.split(), check=True, capture_output=True)
    raise RuntimeError(f"PostgreSQL is missing: run `sudo {INSTALL}`.")


def _servant() -> str | None:
    """Return whom to run as: None, ourselves, unless we are root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in SERVANTS if name in known)


def _identity(owner: str | None) -> dict[str, Any]:
    """Return what makes a child process another user's."""
    if owner is None:
        return {}
    return {"user": owner, "group": pwd.getpwnam(owner).pw_gid, "extra_groups": []}


def _run(
    command: Sequence[object], owner: str | None, environment: dict[str, str] | None = None
) -> None:
    """Run one of PostgreSQL's programs; raises RuntimeError with what it said."""
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        **_identity(owner),
    )
    if done.returncode:
        raise RuntimeError(f"{Path(str(command[0])).name} failed:\n{done.stdout}{done.stderr}")


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Wait until the server lets a client in."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if "ready to accept connections" in log.read_text(errors="replace"):
            return
        time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL does not answer on {port}:\n{log.read_text()[-2000:]}")
