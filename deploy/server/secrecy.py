"""Passwords, and the files that hold secrets: 0600, in a folder of 0700."""

import os
import secrets
from pathlib import Path

from recsys.errors import UsageError

SHORTEST = 12
FEWEST_CHARACTERS = 5
# Long enough, and the first that anybody tries.
KNOWN = {"password1234", "administrator", "changeme1234", "mlflowmlflow", "adminpassword"}


def check_password(password: str, where: str) -> None:
    """Refuse a password that is short or known; raises UsageError, which does not repeat it.

    Args:
        password: to check.
        where: what it came from, for the message.
    """
    if len(password) < SHORTEST:
        raise UsageError(f"{where} is too short: take {SHORTEST} characters or more.")
    if password.lower() in KNOWN or len(set(password)) < FEWEST_CHARACTERS:
        raise UsageError(f"{where} is a password that is easily guessed: take another one.")


def new_password() -> str:
    """Make a password that nobody can guess."""
    return secrets.token_urlsafe(18)


def private_folder(folder: Path) -> None:
    """Make a folder, or make it one, that its owner alone can enter."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(file: Path, text: str) -> None:
    """Write a file that its owner alone can read, from its first byte on."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        os.fchmod(descriptor, 0o600)
        output.write(text)


def kept_key(file: Path) -> str:
    """Return the key in a file, made at the first call."""
    if not file.exists():
        write_private(file, secrets.token_hex(32))
    return file.read_text(encoding="utf-8").strip()
