"""What MLflow shows of the ledger: alias, stage, description and tags of the releases.

Only the ledger decides; people and tools look at MLflow. After each decision, and by `reconcile`,
MLflow is made to say what the ledger says. A tag of the registered model tells which generation it
shows, so that a projection that a crash cut short differs from an alias that somebody moved.
"""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from recsys.errors import RegistryError
from recsys.progress import say
from recsys.storage.places import first_line
from registry.earlier import earlier
from registry.ledger import STAGES, Generation, Ledger
from registry.releases import CANDIDATE, find_version, versions_of
from registry.told import told, version_note

SHOWN_TAG = "recsys.shown."
# Each round sees what another process did meanwhile; nobody decides so often.
ROUNDS = 20
# Seconds that it takes to show a decision, and more.
PATIENCE, PAUSE = 5.0, 0.1
NONE = "None"


@dataclass(frozen=True)
class Ledgers:
    """All that the ledger says of a model name: stage → generations, the oldest first."""

    stages: Mapping[str, Sequence[Generation]]

    def head(self, stage: str) -> Generation | None:
        """Return a stage's newest generation."""
        history = self.stages[stage]
        return history[-1] if history else None

    @property
    def aliases(self) -> dict[str, int]:
        """Alias → version."""
        heads = {stage: self.head(stage) for stage in STAGES}
        return {stage.lower(): head.record.version for stage, head in heads.items() if head}

    @property
    def version_stages(self) -> dict[int, str]:
        """Version → the one stage that MLflow can show of it: the highest that it holds."""
        found = {g.record.version: "Archived" for h in self.stages.values() for g in h}
        for stage in ("Staging", "Production"):
            head = self.head(stage)
            if head:
                found[head.record.version] = stage
        return found


def ledgers_of(model_name: str) -> Ledgers:
    """Read the ledger of all stages; raises RegistryError where a chain does not hold."""
    return Ledgers({stage: Ledger(model_name, stage).history() for stage in STAGES})


def moved(model_name: str, stages: Sequence[str] = STAGES) -> list[str]:
    """Tell what somebody changed in MLflow by hand, each with the commands that settle it.

    Args:
        model_name: the registered model of the releases.
        stages: to look at.

    Raises:
        RegistryError: the ledger has lost or changed a generation that MLflow has shown.
    """
    # Seen twice: MLflow does not read tags and aliases in one moment.
    return _moved(model_name, stages) and _moved(model_name, stages)


def _moved(model_name: str, stages: Sequence[str]) -> list[str]:
    """Compare once what MLflow shows with the ledger."""
    # In this order: whoever decides meanwhile is in the ledger before anything of it is shown.
    model, shown = _model(model_name), _stages_shown(model_name)
    ledgers, found, known = ledgers_of(model_name), list[str](), shown.keys()
    heads = {stage: head for stage in STAGES if (head := ledgers.head(stage))}
    if any(model.tags.get(SHOWN_TAG + stage) != _witness(head) for stage, head in heads.items()):
        # A version has one stage in MLflow: a decision not yet shown may move it from another.
        shown = {}
    for stage in stages:
        head, tag = ledgers.head(stage), model.tags.get(SHOWN_TAG + stage, "")
        _check_witness(model_name, stage, ledgers.stages[stage], tag)
        if head is None or tag != _witness(head):
            # Nothing was shown yet: a crash, or a decision of this moment.
            continue
        if head.record.version not in known:
            found.append(_lost(head))
            continue
        alias = model.aliases.get(stage.lower())
        if str(alias) != str(head.record.version):
            where = f"points to version {alias}" if alias else "is gone"
            what = f"the alias {stage.lower()} {where}"
            found.append(_settle(ledgers.stages[stage], what, alias))
        for version, at in shown.items():
            if at == stage and ledgers.version_stages.get(version) != stage:
                what = f"version {version} stands at {at}"
                found.append(_settle(ledgers.stages[stage], what, version))
    return found


def witnessed(ledger: Ledger) -> list[Generation]:
    """Return a stage's generations, the oldest first, as `Ledger.history` does.

    Raises:
        RegistryError: the ledger has lost or changed a generation that MLflow has shown.
    """
    # In this order: whoever decides meanwhile is in the ledger before anything of it is shown.
    tag = _model(ledger.model_name).tags.get(SHOWN_TAG + ledger.stage, "")
    history = ledger.history()
    _check_witness(ledger.model_name, ledger.stage, history, tag)
    return history


def show(model_name: str, repair: bool = False) -> list[str]:
    """Make MLflow say what the ledger says; returns what was changed, in words.

    Args:
        model_name: the registered model of the releases.
        repair: also put back what somebody moved by hand.

    Raises:
        RegistryError: something was moved by hand and `repair` is not asked for; or it changes
            faster than it can be shown; or MLflow refuses to show it.
    """
    by_hand, changed, refused = moved(model_name), list[str](), None
    if by_hand and not repair:
        raise RegistryError("; ".join(by_hand))
    for _ in range(ROUNDS):
        try:
            done, refused = _show_once(model_name), None
        except MlflowException as error:
            # MLflow refuses one of two who write the same tag at the same moment.
            if error.error_code != "BAD_REQUEST":
                raise
            refused = error
            continue
        changed += done
        # Whoever wrote last has looked once more after it; a later decision shows itself.
        if not done:
            left = moved(model_name) if by_hand else []
            for sentence in by_hand:
                say(f"  {'still' if sentence in left else 'put right'}: {sentence}")
            return changed
    if refused:
        raise RegistryError(
            f"The ledger holds the decisions on {model_name}, but MLflow refuses to show them: "
            f"{first_line(refused)}. Mend that, then run python -m registry.reconcile "
            f"--model_name {model_name}."
        ) from refused
    raise RegistryError(
        f"What MLflow shows of {model_name} changes all the time: run reconcile when it is quiet."
    )


def wait_until_shown(head: Generation) -> None:
    """Wait while whoever decided last shows it in MLflow, but not for one who was killed at it.

    MLflow may let two stand at one stage where two versions take it at the very same moment.
    """
    record, now = head.record, time.time()
    end = min(now, datetime.fromisoformat(head.time).timestamp()) + PATIENCE
    while time.time() < end:
        number = _model(record.model_name).tags.get(SHOWN_TAG + record.stage, "").partition(" ")[0]
        if number.isdigit() and int(number) >= head.number:
            return
        time.sleep(PAUSE)


def _show_once(model_name: str) -> list[str]:
    """Change what differs; returns what was changed."""
    client, done = MlflowClient(), list[str]()
    # In this order: nothing that is shown is newer than the ledger.
    model, shown = _model(model_name), _stages_shown(model_name)
    ledgers = ledgers_of(model_name)
    wanted = ledgers.version_stages
    # Whoever takes a stage archives the one before in the same moment.
    for version in sorted(wanted, key=lambda v: wanted[v] == "Archived"):
        if shown.get(version) not in (wanted[version], None):
            _set_stage(client, model_name, version, wanted[version])
            done.append(f"version {version} stands at {wanted[version]}")
            shown = _stages_shown(model_name)
    for version, stage in shown.items():
        if version not in wanted and stage != NONE:
            _set_stage(client, model_name, version, NONE)
            done.append(f"version {version} stands at no stage")
    for alias, version in ledgers.aliases.items():
        if str(model.aliases.get(alias)) != str(version) and version in shown:
            client.set_registered_model_alias(model_name, alias, str(version))
            done.append(f"the alias {alias} points to version {version}")
    for stage in STAGES:
        head = ledgers.head(stage)
        if head and model.tags.get(SHOWN_TAG + stage) != _witness(head):
            _describe(client, head, ledgers, shown)
            client.set_registered_model_tag(model_name, SHOWN_TAG + stage, _witness(head))
            done.append(f"generation {head.number} of {stage} is shown")
    return done


def _set_stage(client: MlflowClient, name: str, version: int, stage: str) -> None:
    with warnings.catch_warnings():
        # Stages are deprecated in MLflow, but they are what people look for in its UI.
        warnings.simplefilter("ignore", FutureWarning)
        client.transition_model_version_stage(
            name,
            str(version),
            stage,
            # In one transaction of the server, so that never two stand at one stage.
            archive_existing_versions=stage in ("Staging", "Production"),
        )


def _describe(
    client: MlflowClient, head: Generation, ledgers: Ledgers, shown: Mapping[int, str]
) -> None:
    """Let the version's page in MLflow say what the ledger says of it, and the former holder's."""
    record = head.record
    former = {g.record.version for g in ledgers.stages[record.stage][-2:-1]}
    try:
        for version in sorted({record.version} | (former & shown.keys())):
            note = version_note(version, ledgers.stages)
            client.update_model_version(record.model_name, str(version), note)
        for key, value in told(head).items():
            client.set_model_version_tag(record.model_name, str(record.version), key, value)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise RegistryError(_lost(head)) from None


def _model(model_name: str) -> RegisteredModel:
    """Return the registered model; an empty one where there is none."""
    try:
        return MlflowClient().get_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return RegisteredModel(model_name)


def _stages_shown(model_name: str) -> dict[int, str]:
    return {int(v.version): str(v.current_stage) for v in versions_of(model_name)}


def _witness(head: Generation) -> str:
    """Return what MLflow remembers of a generation that it shows."""
    return f"{head.number} {head.digest}"


def _check_witness(model_name: str, stage: str, history: Sequence[Generation], tag: str) -> None:
    """Raise RegistryError where the ledger no longer holds what MLflow has shown of it."""
    number, _, digest = tag.partition(" ")
    if not number.isdigit():
        return
    if int(number) > len(history) or history[int(number) - 1].digest != digest:
        raise RegistryError(
            f"Generation {number} of {model_name}, {stage}, which MLflow has shown, is missing in "
            "the ledger or was rewritten: restore the ledger from a backup."
        )


def _lost(head: Generation) -> str:
    """Say that MLflow has no longer what holds a stage, and what brings it back."""
    record = head.record
    return (
        f"By the ledger version {record.version} of {record.model_name} holds {record.stage}, but "
        f"MLflow has no such version: promote candidate {record.candidate} again (python -m "
        f"registry.promote --model_name {record.model_name} --version {record.candidate} --stage "
        f"{record.stage})"
    )


def _settle(history: Sequence[Generation], what: str, version: int | str | None) -> str:
    """Say what was moved, and by which commands it is adopted or undone."""
    record, adopt = history[-1].record, ""
    name, stage = record.model_name, record.stage
    if version is not None:
        candidate = find_version(name, int(version)).tags.get(CANDIDATE)
        if int(version) in {g.record.version for g in earlier(history)}:
            # It was compared with another holder than today's: `promote` might refuse it.
            adopt = f"rollback --model_name {name} --version {version} --stage {stage} --reason WHY"
        elif candidate:
            adopt = f"promote --model_name {name} --version {candidate} --stage {stage}"
    adopt = f"python -m registry.{adopt} adopts that, " if adopt else ""
    return (
        f"By the ledger version {record.version} of {name} holds {stage}, but {what}: "
        f"somebody changed it in MLflow by hand. {adopt}"
        f"python -m registry.reconcile --model_name {name} --repair true undoes it"
    )
