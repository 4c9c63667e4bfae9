"""Who may ask: the account's key, and tokens that the service gave to tasks."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, urlsplit

from tests.batch_service.wire import BatchError

SIGNED = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
]
SKEW = timedelta(minutes=15)


def signature(account: str, key: str, method: str, target: str, headers: Mapping[str, str]) -> str:
    """Return the SharedKey signature of a request.

    Args:
        account: name.
        key: in base64.
        method: of the request.
        target: path and query as they stand in the request line.
        headers: names in lower case.
    """
    url = urlsplit(target)
    values = {name: headers.get(name, "") for name in SIGNED}
    if method not in ("GET", "HEAD"):
        values["content-length"] = values["content-length"] or "0"
    lines = [method, *(values[name] for name in SIGNED)]
    lines += [f"{n}:{headers[n]}" for n in sorted(headers) if n.startswith("ocp-") and headers[n]]
    lines.append(f"/{account}{url.path}")
    lines += [f"{name}:{value[0]}" for name, value in sorted(parse_qs(url.query).items())]
    digest = hmac.new(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


class Gate:
    """Lets requests in that carry the key, or a token for a path below the token's job."""

    def __init__(self, account: str, key: str) -> None:
        self.account = account
        self.key = key
        self._jobs: dict[str, str] = {}

    def issue(self, job_path: str) -> str:
        """Return a new token, good for a job and what lies below it."""
        token = secrets.token_urlsafe(48)
        self._jobs[token] = job_path
        return token

    def revoke(self, token: str | None) -> None:
        """End a token with its task."""
        if token is not None:
            self._jobs.pop(token, None)

    def check(self, method: str, target: str, path: str, headers: Mapping[str, str]) -> None:
        """Raise BatchError (403 AuthenticationFailed) where the request may not pass."""
        kind, _, proof = headers.get("authorization", "").partition(" ")
        if kind == "SharedKey":
            self._check_key(proof, method, target, headers)
        elif kind == "Bearer":
            job = self._jobs.get(proof.strip())
            if job is None or not (path == job or path.startswith(f"{job}/")):
                raise _refused("the token is not for this resource")
        else:
            raise _refused("there is no Authorization header of a known kind")

    def _check_key(self, proof: str, method: str, target: str, headers: Mapping[str, str]) -> None:
        account, _, given = proof.partition(":")
        if account != self.account:
            raise _refused("the account is another")
        expected = signature(self.account, self.key, method, target, headers)
        if not hmac.compare_digest(expected, given):
            raise _refused("the signature is not that of this request")
        # The real time, whatever the service's clock says: clients stamp with theirs.
        try:
            sent = parsedate_to_datetime(headers.get("ocp-date") or headers["date"])
        except (KeyError, ValueError, binascii.Error):
            raise _refused("there is no date") from None
        if abs(datetime.now(UTC) - sent) > SKEW:
            raise _refused("the date is more than 15 minutes off")


def _refused(reason: str) -> BatchError:
    return BatchError("AuthenticationFailed", AuthenticationErrorDetail=reason)
