from pathlib import Path
from typing import Any

import pytest

from benchmarks import growth, report
from benchmarks.report import ALL, Run, Spread, table, told_spread

MEMORY = {"driver": 2**20, "jvm": 0, "workers": 0, "all": 2**20}


def run(name: str, turn: int, pack: float = 0.0, fit: float = 0.0, failure: str = "") -> Run:
    if failure:
        return Run("als", name, turn, failure)
    return Run("als", name, turn, "", {"pack": pack, "fit": fit}, memory=MEMORY)


RUNS = [
    run("ours", 1, pack=1, fit=2),
    run("mllib", 1, pack=1, fit=20),
    run("ours", 2, pack=1, fit=3),
    run("mllib", 2, pack=1, fit=20),
    run("ours", 3, pack=1, fit=8),
    run("mllib", 3, failure="stopped after 60 s"),
]


def found(runs: list[Run], interactions: int = 1_000_000) -> dict[str, Any]:
    numbers = {"factors": 64, "iterations": 10, "k": 10, "neighbours": 100, "margin": 50}
    return {
        "machine": dict.fromkeys(("cores", "cpu", "memory_gib", "system", "commit"), "?"),
        "data": {
            "name": "tiny", "digest": "0" * 64,
            "interactions": interactions, "customers": 2, "items": 3,
        },
        "settings": numbers | {"repeats": 3, "driver_memory": "1g"},
        "runs": [vars(one) for one in runs],
    }  # fmt: skip


def test_ratio_is_ours_to_theirs_of_the_same_turn() -> None:
    ours, mllib = table(RUNS)

    assert ours.ratios == {}
    assert mllib.ratios["fit"] == Spread(0.1, 0.125, 0.15)
    assert mllib.ratios[ALL] == Spread(3 / 21, pytest.approx(3.5 / 21), 4 / 21)


def test_seconds_are_summed_over_the_phases_and_spread_over_the_turns() -> None:
    ours, _ = table(RUNS)

    assert ours.seconds["fit"] == Spread(2, 3, 8)
    assert ours.seconds[ALL] == Spread(3, 4, 9)
    assert told_spread(ours.seconds["fit"]) == "**3.00** (2.00 – 8.00)"


def test_contender_that_fails_is_told_and_keeps_its_good_turns() -> None:
    _, mllib = table(RUNS)

    assert mllib.failure == "stopped after 60 s"
    assert mllib.turns == 2


def test_contender_that_never_succeeds_has_a_line_of_its_own(tmp_path: Path) -> None:
    report.write(found([*RUNS, run("replay", 1, failure="failed: no package")]), tmp_path, "tiny")

    text = (tmp_path / "tiny.md").read_text("utf-8")
    assert "| replay | failed: no package |" in text
    assert "| mllib (stopped after 60 s) |" in text
    assert (tmp_path / "tiny.png").stat().st_size > 0


def test_growth_is_seconds_a_million_interactions_in_the_order_of_size() -> None:
    large = found([run("ours", 1, fit=40)], interactions=10_000_000)
    small = found([run("ours", 1, fit=2), run("mllib", 1, failure="failed: memory")])

    assert growth.points([large, small]) == {"als": {"ours": [(1.0, 2.0), (10.0, 4.0)]}}
