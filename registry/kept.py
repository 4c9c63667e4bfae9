"""The releases that this machine has verified, for when MLflow's server does not answer.

The ledger must answer all the same: it says which release holds the stage, and by its digest the
copy is found. A copy is checked again, file by file, before it is used. Beside the copies lies the
decision by which a stage scored last, so that a ledger that has lost it is noticed here, too.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from recsys import tracking
from recsys.errors import ModelError, RegistryError
from recsys.models import files
from recsys.progress import say
from recsys.storage import replace_folder, write_atomic
from recsys.storage.azure import redacted
from registry.ledger import Generation, Ledger, model_place
from registry.policy import StageRules

FOLDER, OFFLINE, LEDGERS = "RECSYS_RELEASES", "offline", "ledgers"
DEFAULT = Path("~/.cache/recsys/releases")
# Older copies are forgotten.
KEPT = 5
TRIES, PATIENCE, PAUSE = 3, 5.0, 1.0
DAY = 86_400.0
RUN_ID = "MLFLOW_RUN_ID"
_OFFLINE = "RECSYS_OFFLINE_STORE"


def root() -> Path:
    """Return where the copies lie; RECSYS_RELEASES puts them elsewhere."""
    return Path(os.environ.get(FOLDER) or DEFAULT).expanduser()


def keep(digest: str, folder: Path) -> None:
    """Keep a copy of a release that a server gave and that has just been verified."""
    if not _has_server():
        return
    copy = root() / digest
    try:
        if not _is_intact(copy, digest):
            part = root() / f".{digest}-{os.getpid()}"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(folder, part)
            replace_folder(part, copy)
        os.utime(copy)
        copies = [f for f in root().iterdir() if re.fullmatch("[0-9a-f]{64}", f.name)]
        for old in sorted(copies, key=lambda f: f.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        # What is scored does not depend on it.
        say(f"  no copy of the release is kept for when the server is down: {error}")


def _is_intact(copy: Path, digest: str) -> bool:
    """Tell whether a copy is there and was not changed."""
    try:
        return copy.is_dir() and files.check(copy) == digest
    except ModelError:
        return False


def copied(digest: str, folder: Path) -> str:
    """Copy a kept model into a folder and check it there; returns its digest.

    Raises:
        ModelError: there is no such copy, or it was changed.
    """
    copy = root() / digest
    if not copy.is_dir():
        raise ModelError(
            f"MLflow's server does not answer, and this machine never verified the release "
            f"{digest[:12]}: start the server, or score where it was used before."
        )
    shutil.copytree(copy, folder, symlinks=True)
    try:
        return files.check(folder)
    except ModelError as error:
        told = str(error).replace(str(folder), str(copy)).rstrip(".")
        raise ModelError(
            f"{told}. Start MLflow's server and run again: the release is then fetched anew."
        ) from None


def remember(head: Generation) -> None:
    """Keep which decision a stage's holder scored by, where a server showed it."""
    if not _has_server():
        return
    record = head.record
    told = {
        "model_name": record.model_name,
        "stage": record.stage,
        "generation": head.number,
        "record": head.digest,
    }
    file = _ledger_file(record.model_name, record.stage)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(told, indent=1).encode())
    except OSError as error:
        say(f"  what scored is not remembered for when the server is down: {error}")


def remembered(ledger: Ledger) -> list[Generation]:
    """Return a stage's generations, the oldest first, as `Ledger.history` does.

    Raises:
        RegistryError: the decision by which this machine scored last is not among them.
    """
    history, file = ledger.history(), _ledger_file(ledger.model_name, ledger.stage)
    if not file.is_file():
        return history
    try:
        told = json.loads(file.read_bytes())
        number, digest = int(told["generation"]), told["record"]
    except (ValueError, KeyError, TypeError):
        raise RegistryError(f"{file} is damaged: start MLflow's server and run again.") from None
    if digest not in {g.digest for g in history[number - 1 : number]}:
        raise RegistryError(
            f"Generation {number} of {ledger.what}, by which this machine has scored, is missing "
            "in the ledger or was rewritten: restore the ledger from a backup. Nothing was scored."
        )
    return history


def _ledger_file(model_name: str, stage: str) -> Path:
    """Name the file of what was seen of a ledger; several ledgers may have a model of one name."""
    place = model_place(model_name, stage)
    where = place.absolute() if isinstance(place, Path) else place
    return root() / LEDGERS / f"{hashlib.sha256(str(where).encode()).hexdigest()}.json"


def _has_server() -> bool:
    """Tell whether it is a server that MLflow's runs and releases come from."""
    return not is_offline() and mlflow.get_tracking_uri().startswith("http")


def is_offline() -> bool:
    """Tell whether this process does without MLflow's server."""
    return _OFFLINE in os.environ


@contextmanager
def without_server(digest: str | None, rules: StageRules, stage: str) -> Iterator[bool]:
    """Do without MLflow's server where it does not answer and the policy allows it.

    Meanwhile runs are logged into the folder `offline` beside the copies.

    Args:
        digest: of the model that holds the stage by the ledger.
        rules: of the stage.
        stage: for the message.

    Yields:
        Whether the server does not answer.

    Raises:
        RegistryError: it does not, and the policy does not allow it, or the copy is too old.
    """
    server = mlflow.get_tracking_uri()
    if not server.startswith("http") or answers(server):
        yield False
        return
    shown = redacted(server)
    copy = root() / (digest or "none")
    age = (time.time() - copy.stat().st_mtime) / DAY if copy.is_dir() else float("inf")
    # A time in the future would never grow old.
    if not 0 <= age <= rules.offline_days:
        seen = f"{age:.1f} days ago" if age >= 0 else "at a time that is still to come"
        seen = seen if copy.is_dir() else "never"
        raise RegistryError(
            f"MLflow's server at {shown} does not answer, the release that holds {stage} was "
            f"verified here {seen}, and the policy allows {rules.offline_days:g} days "
            "(offline_days): nothing was scored, the previous table stands. Start the server and "
            "run again."
        )
    say(f"  MLflow's server at {shown} does not answer: using the copy verified {age:.1f} days ago")
    store = (root() / OFFLINE).absolute()
    store.mkdir(exist_ok=True)
    os.environ[_OFFLINE] = str(store)
    # The server's run, where there is one, is not known here.
    run_id = os.environ.pop(RUN_ID, None)
    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    try:
        _make_experiment(store)
        yield True
    finally:
        mlflow.set_tracking_uri(server)
        os.environ.pop(_OFFLINE)
        if run_id is not None:
            os.environ[RUN_ID] = run_id


def _make_experiment(store: Path) -> None:
    """Make the experiment that `step_run` opens, so that its artifacts lie in the store as well."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", tracking.EXPERIMENT)
    if MlflowClient().get_experiment_by_name(name) is None:
        MlflowClient().create_experiment(name, (store / "artifacts").as_uri())


def answers(server: str) -> bool:
    """Tell whether MLflow's server answers, be it with a no."""
    credentials = get_default_host_creds(server)  # type: ignore[no-untyped-call]
    for attempt in range(TRIES):
        try:
            http_request(credentials, "/health", "GET", max_retries=0, timeout=PATIENCE)  # type: ignore[no-untyped-call]
            return True
        except MlflowException:
            if attempt < TRIES - 1:
                time.sleep(PAUSE)
    return False
