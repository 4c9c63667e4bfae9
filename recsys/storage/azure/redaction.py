"""The secrets of an environment, to take them out of texts and to look for them in tests."""

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

NAMES = re.compile(r"(?:^|_)(KEY|SECRET|PASSWORD|PASSPHRASE|TOKEN|SAS|SIG)$", re.IGNORECASE)
IN_CONNECTION_STRINGS = ("accountkey", "sharedaccesskey", "sharedaccesssignature", "password")
# Shorter values are settings such as `true`, and would be found everywhere.
SHORTEST = 6


def secrets(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return every secret in some variables, the longest first, for taking them out of texts.

    What counts: values of variables named like a key, secret, password, token or signature, the
    key and the signature in a connection string, passwords in URLs, each also as it stands in a
    URL and decoded.
    """
    found: set[str] = set()
    for name, value in environment.items():
        if NAMES.search(name):
            found |= {value, *_signatures(value)}
        if "CONNECTION_STRING" in name.upper():
            found |= set(_in_connection_string(value))
        if "://" in value:
            found |= set(_in_url(value))
    found |= {unquote(value) for value in found}
    return sorted((s for s in found if len(s) >= SHORTEST), key=lambda s: (-len(s), s))


def redacted(text: str) -> str:
    """Return a text without the secrets of this process's variables, nor passwords in URLs."""
    for secret in secrets():
        text = text.replace(secret, "***")
    return re.sub(r"//[^/@\s]*@", "//", text)


def _in_connection_string(text: str) -> Iterator[str]:
    for part in text.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() in IN_CONNECTION_STRINGS:
            yield value
            yield from _signatures(value)


def _signatures(text: str) -> list[str]:
    """Return the signature in a SAS or in a URL's query, as it stands there."""
    return re.findall(r"(?:^|[?&])sig=([^&\s]+)", text)


def _in_url(text: str) -> Iterator[str]:
    """Yield a URL's password and signature."""
    yield from re.findall(r"://[^\s/@:]*:([^\s/@]+)@", text)
    yield from _signatures(text)
