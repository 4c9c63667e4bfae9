"""People who review, and the ed25519 keys (RFC 8032) that they sign with."""

import base64
import hashlib
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, model_validator

from recsys.config import Config
from recsys.errors import UsageError

SCHEME = "ed25519:"
PASSPHRASE = "RECSYS_KEY_PASSPHRASE"
KEYS = Path("~/.config/recsys/keys")
# The y of the points of order 1, 2, 4 and 8, whose owner is everybody, and the prime of the field
# (RFC 8032, 5.1).
PRIME = 2**255 - 19
EIGHTH = 2707385501144840649318225287225658788936804267575313519463743609750303402022
LOW_ORDER = (0, 1, PRIME - 1, EIGHTH, PRIME - EIGHTH)


class Reviewer(Config):
    """One person."""

    keys: tuple[str, ...] = Field(min_length=1, description="public keys")
    accounts: tuple[str, ...] = Field((), description="names under which the person trains")


class Reviewers(Config):
    """Everybody whose signature may count."""

    reviewers: dict[str, Reviewer] = Field({}, description="name → keys and accounts")

    @model_validator(mode="after")
    def _one_person_a_key(self) -> Self:
        seen, people = dict[str, str](), dict[str, str]()
        for name, reviewer in self.reviewers.items():
            if people.setdefault(folded(name), name) != name:
                raise ValueError(f"{people[folded(name)]!r} and {name!r} are one name: change one")
            for key in reviewer.keys:
                _public(key)
                if seen.setdefault(key, name) != name:
                    raise ValueError(f"{seen[key]} and {name} have the same key {key}")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says."""
        told = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def person_of(self, key: str) -> str | None:
        """Return whose key it is, None where nobody's."""
        found = (name for name, known in self.reviewers.items() if key in known.keys)
        return next(found, None)

    def accounts_of(self, name: str) -> set[str]:
        """Return all names under which a person may have trained, folded."""
        known = self.reviewers.get(name)
        return {folded(account) for account in (name, *(known.accounts if known else ()))}


def folded(name: str) -> str:
    """Return a name as it is compared: `Joan ` and `joan` are one person."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def make_key(file: Path) -> str:
    """Make a key pair, write the private part to a file, return the public part.

    Args:
        file: to write, readable by its owner alone; RECSYS_KEY_PASSPHRASE encrypts it.

    Raises:
        UsageError: the file is there already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    phrase = os.environ.get(PASSPHRASE, "").encode()
    data = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(phrase) if phrase else serialization.NoEncryption(),
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} is there already: a key is never replaced.") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror}).") from None
    with os.fdopen(descriptor, "wb") as sink:
        sink.write(data)
    return public_part(key)


def read_key(file: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        UsageError: it is not there, not an ed25519 key, readable by others, or locked.
    """
    try:
        if file.stat().st_mode & 0o077:
            raise UsageError(f"Others may read the key {file}: chmod 600 {file}, then again.")
        phrase = os.environ.get(PASSPHRASE, "").encode() or None
        key = serialization.load_pem_private_key(file.read_bytes(), phrase)
    except OSError:
        raise UsageError(
            f"There is no key {file}: make one (python -m registry.review key --reviewer NAME)."
        ) from None
    except TypeError:
        raise UsageError(
            f"The key {file} has a passphrase or has none: set or unset {PASSPHRASE}."
        ) from None
    except ValueError:
        raise UsageError(f"{file} is no private key, or the passphrase is wrong.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{file} is no ed25519 key: make one with `registry.review key`.")
    return key


def key_file(reviewer: str) -> Path:
    """Return where a person's private key lies by default.

    Raises:
        UsageError: the name is none for a file.
    """
    if not re.fullmatch(r"\w[\w .@+-]*", reviewer):
        raise UsageError(
            f"reviewer={reviewer!r}: use letters, digits, '.', '-', '_', '+', '@' and spaces."
        )
    return KEYS.expanduser() / f"{reviewer}.pem"


def public_part(key: Ed25519PrivateKey) -> str:
    """Return a key's public part as reviewers.yaml has it."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return SCHEME + base64.b64encode(raw).decode()


def is_signed(data: bytes, signature: str, key: str) -> bool:
    """Tell whether a signature (base64) over some bytes was made by a public key's owner."""
    try:
        _public(key).verify(base64.b64decode(signature, validate=True), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _public(key: str) -> Ed25519PublicKey:
    """Read a public key; raises ValueError where it is none."""
    try:
        raw = base64.b64decode(key.removeprefix(SCHEME), validate=True)
        # One point has one spelling: the unused bits of base64 and of y are 0.
        y = int.from_bytes(raw, "little") % 2**255
        if key == SCHEME + base64.b64encode(raw).decode() and y < PRIME and y not in LOW_ORDER:
            return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        pass
    raise ValueError(
        f"{key} is no public key: it must be {SCHEME} and 32 bytes in base64, as "
        "`registry.review key` prints it"
    )
