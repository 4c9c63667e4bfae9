"""What people typed in words that MLflow and a terminal can take."""

from dataclasses import replace

import pytest

from recsys.errors import UsageError
from registry.ledger import PROMOTE, ROLLBACK, STAGES, Generation
from registry.promote import PromoteConfig
from registry.review import ReviewConfig
from registry.rollback import RollbackConfig
from registry.told import DESCRIBED, OLDER, TYPED, plain, version_note
from tests.registry.test_ledger import RECORD


def decisions(count: int, reason: str) -> dict[str, list[Generation]]:
    """Return what stands in a ledger where a stage goes to and fro between two versions."""
    record = replace(RECORD, model_digest="m" * 64, dataset_digest="d" * 64, reason=reason)
    found = [
        Generation(
            number,
            "g" * 64,
            f"2026-01-01T00:{number:02d}:00+00:00",
            replace(
                record,
                version=2 - number % 2,
                action=PROMOTE if number < 3 else ROLLBACK,
                reason=f"{number}: {reason}",
            ),
        )
        for number in range(1, count + 1)
    ]
    return {stage: found if stage == "Production" else [] for stage in STAGES}


@pytest.mark.parametrize("reason", ["agreed in the weekly meeting", "*" * TYPED])
@pytest.mark.parametrize("version", [1, 2])
def test_the_description_of_a_release_keeps_what_is_newest_and_fits(
    reason: str, version: int
) -> None:
    note = version_note(version, decisions(59, reason))
    lines = note.splitlines()
    assert len(note) <= DESCRIBED < len(note) + 1_000
    assert lines[0] == RECORD.sentence
    shown = [line.partition("why: ")[2].partition(":")[0] for line in lines[4:-1]]
    assert shown == [str(number) for number in range(59, 59 - len(shown), -1)]
    assert len(shown) >= 5
    assert lines[-1] == OLDER


def test_a_short_history_is_told_whole() -> None:
    note = version_note(1, decisions(3, "agreed"))
    assert OLDER not in note
    assert [f"{n}: agreed" in note for n in (1, 2, 3)] == [True] * 3


def test_a_long_sentence_leaves_room_for_the_decisions() -> None:
    stages = decisions(3, "agreed")
    stages["Production"] = [
        replace(g, record=replace(g.record, sentence="s" * 9_000)) for g in stages["Production"]
    ]
    note = version_note(1, stages)
    assert len(note) <= DESCRIBED and "3: agreed" in note


def test_plain_text_is_one_line_without_control_characters() -> None:
    assert plain("a\x1b]0;x\x07\r\nb\u2028c\u202ed\x9b é 🙂") == "a]0;x b cd é 🙂"
    assert plain("é" * 300, 200) == "é" * 199 + "…"
    assert plain("é" * 200, 200) == "é" * 200


@pytest.mark.parametrize(
    ("config", "name", "given"),
    [
        (PromoteConfig, "reason", {"version": 1}),
        (RollbackConfig, "reason", {}),
        (ReviewConfig, "comment", {"version": 1}),
    ],
)
def test_a_reason_that_is_too_long_is_refused_and_not_cut_off(
    config: type[PromoteConfig | RollbackConfig | ReviewConfig], name: str, given: dict[str, int]
) -> None:
    assert getattr(config.checked({**given, name: "x" * TYPED}, "here"), name) == "x" * TYPED
    with pytest.raises(UsageError, match=f"{name}=.*at most {TYPED} characters"):
        config.checked({**given, name: "x" * (TYPED + 1)}, "here")
