"""Telling somebody that a scheduled job failed: a POST of JSON to a webhook.

The address may hold a secret. It lies in Blob storage, where nodes read it with their own
credential, never in a job or on a command line, and no message here shows it.
"""

import json
import time
import urllib.request
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from deploy.azure_batch.job import slot_of
from deploy.cluster.exit_codes import meaning
from recsys.errors import UsageError
from recsys.progress import say
from recsys.storage import put, put_new, read_bytes, remove, store_of

ALERTS = "alerts"
TRIES = 3


@dataclass(frozen=True)
class Failure:
    """What is told about a failed job."""

    schedule: str
    job: str
    exit_code: int | None
    meaning: str
    run_id: str | None
    time: str


def failure(schedule: str, job: str, exit_code: int | None, run_id: str | None = None) -> Failure:
    """Describe a failed job, now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Failure(schedule, job, exit_code, meaning(exit_code), run_id, now)


def keep_webhook(storage: str, schedule: str, url: str | None) -> None:
    """Store a schedule's webhook, or forget it; raises UsageError where it is no web address."""
    store, key = store_of(storage, create=True), _key(schedule)
    if url is None:
        remove(store, [key])
        return
    if not url.startswith(("https://", "http://")):
        raise UsageError("webhook must be an https:// address.")
    put(store, key, json.dumps({"webhook": url}).encode())


def send(storage: str, told: Failure) -> bool:
    """Call the schedule's webhook, once a job; returns whether it took the message. Never raises.

    A mark in storage, made before the call, keeps a second teller from telling the same.
    """
    mark = f"{ALERTS}/told/{slot_of(told.job)}"
    try:
        store = store_of(storage)
        kept = read_bytes(store, _key(told.schedule))
        if kept is None or not put_new(store, mark, b""):
            return False
        for attempt in range(TRIES):
            if _post(json.loads(kept)["webhook"], json.dumps(asdict(told)).encode()):
                return True
            time.sleep(attempt)
        remove(store, [mark])
    except Exception as error:  # an alert must not hide the failure it tells of
        say(f"  the webhook of {told.schedule} cannot be called ({type(error).__name__})")
        return False
    say(f"  the webhook of {told.schedule} did not take the message in {TRIES} tries")
    return False


def _post(url: str, body: bytes) -> bool:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(200 <= answer.status < 300)
    except (OSError, ValueError):
        return False


def _key(schedule: str) -> str:
    return f"{ALERTS}/{schedule}.json"
