"""The decision, gate by gate, and how often it is wrong by chance."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.comparison import Difference, SegmentDifference, differences
from recsys.errors import UsageError
from recsys.metrics.intervals import Interval
from registry.evidence import Entrant
from registry.policy import POLICY_FILE, Decision, Pairing, Policy, decide, holm
from registry.rulebook import read_policy

POLICY = Policy(
    minimal_effect=0.05,
    beat_popularity=True,
    same_sign_in_every_window=True,
    guardrails={"coverage_at_10": 0.1, "other_question": 0.1},
    segment_margin=0.5,
    smallest_segment=100,
)


def entrant(name: str) -> Entrant:
    return Entrant(name, name, name, f"digest-{name}", f"models:/{name}", 0, "1", "", "", {}, {})


def gain(mean: float, error: float = 0.001, champion: float = 0.1, n: int = 1000) -> Difference:
    interval = Interval(mean, mean - 2 * error, mean + 2 * error)
    return Difference(champion, champion + mean, interval, error, n, 3, 2, 1)


CHAMPION = entrant("popularity")
GOOD = Pairing(
    CHAMPION,
    entrant("als"),
    "discover",
    "ndcg_at_10",
    {
        "ndcg_at_10": gain(0.02),
        "replenish/ndcg_at_10": gain(0.0, champion=0.3),
        "coverage_at_10": gain(0.0),
    },
    [SegmentDifference("activity", "new", gain(0.0))],
    {"test_2": gain(0.01)},
    gain(0.01),
)


def changed(**changes: Any) -> Pairing:
    metrics = {**GOOD.metrics, **changes.pop("metrics", {})}
    return dataclasses.replace(GOOD, metrics=metrics, **changes)


def decided(*pairings: Pairing, policy: Policy = POLICY) -> Decision:
    return decide(CHAMPION, pairings, policy)


def refusals(decision: Decision) -> str:
    assert decision.shown is not None
    return "; ".join(decision.shown.refusals)


def test_a_challenger_that_passes_every_gate_wins() -> None:
    decision = decided(GOOD)
    assert decision.winner is GOOD.challenger
    assert decision.sentence == (
        "als beats popularity: ndcg_at_10 +0.0200 (+0.0180 … +0.0220), better for 3, alike for 2, "
        "worse for 1 of 1,000 customers."
    )
    assert decision.shown is not None
    assert not decision.shown.refusals


REFUSED = {
    # 5 % of 0.1 is 0.005.
    "gain": (changed(metrics={"ndcg_at_10": gain(0.00698)}), "above 0.0050"),
    "popularity": (changed(popularity=gain(0.002)), "against popularity it changes by \\+0.0020"),
    # 10 % of 0.1 is 0.01, 10 % of 0.3 is 0.03.
    "coverage_at_10": (changed(metrics={"coverage_at_10": gain(-0.0085)}), "above -0.0100"),
    "other_question": (
        changed(metrics={"replenish/ndcg_at_10": gain(-0.0285, champion=0.3)}),
        "replenish/ndcg_at_10 changes by .* above -0.0300",
    ),
    # 50 % of 0.1 is 0.05.
    "activity: new": (
        changed(segments=[SegmentDifference("activity", "new", gain(-0.0485))]),
        "activity: new changes by .* above -0.0500",
    ),
    "test_2": (changed(windows={"test_2": gain(-0.0001)}), "in the window test_2"),
}


@pytest.mark.parametrize("gate", REFUSED)
def test_each_gate_refuses_with_its_reason(gate: str) -> None:
    pairing, reason = REFUSED[gate]
    decision = decided(pairing)
    assert decision.winner is CHAMPION
    assert decision.shown is not None
    assert [g.name for g in decision.shown.gates if not g.passed] == [gate]
    assert re.search(reason, " ".join(decision.shown.refusals))
    assert decision.sentence.startswith("popularity stays. als does not take its place")
    assert decision.sentence.endswith(f"it fails {gate}.")


@pytest.mark.parametrize(
    ("pairing", "policy"),
    [
        (REFUSED["popularity"][0], {"beat_popularity": False}),
        (REFUSED["test_2"][0], {"same_sign_in_every_window": False}),
        (REFUSED["coverage_at_10"][0], {"guardrails": {}}),
        (REFUSED["activity: new"][0], {"smallest_segment": 1001}),
        (REFUSED["gain"][0], {"minimal_effect": 0.0}),
    ],
)
def test_each_gate_can_be_opened_by_the_policy(pairing: Pairing, policy: dict[str, Any]) -> None:
    opened = POLICY.model_copy(update=policy)
    assert decided(pairing, policy=opened).winner is pairing.challenger


def test_where_popularity_is_the_champion_it_is_not_beaten_twice() -> None:
    assert decided(changed(popularity=None)).winner is GOOD.challenger


def test_a_guardrail_that_nobody_logged_refuses() -> None:
    policy = POLICY.model_copy(update={"guardrails": {"diversity_at_10": 0.1}})
    assert "diversity_at_10: nobody logged it" in refusals(decided(GOOD, policy=policy))


def test_replenish_may_decide_and_discover_guard() -> None:
    metrics = {
        "replenish/ndcg_at_10": gain(0.05, champion=0.3),
        "replenish/coverage_at_10": gain(0.0),
        "ndcg_at_10": gain(-0.5),
    }
    pairing = changed(question="replenish", metrics=metrics)
    assert "ndcg_at_10 changes by -0.5000" in refusals(decided(pairing))
    assert decided(changed(question="replenish", metrics=metrics | {"ndcg_at_10": gain(0.0)})).shown


def test_the_best_on_validation_of_those_that_pass_wins() -> None:
    weak, good, better = (
        dataclasses.replace(changed(metrics={"ndcg_at_10": gain(g)}), challenger=entrant(name))
        for name, g in (("weak", 0.0), ("good", 0.02), ("better", 0.03))
    )
    assert decided(weak, good, better).winner.name == "good"
    assert [v.passed for v in decided(weak, good, better).verdicts] == [False, True, True]


def test_without_a_challenger_the_champion_stays() -> None:
    assert decided().winner is CHAMPION
    assert decided().shown is None


def test_many_challengers_have_to_show_more() -> None:
    # 2.2 standard errors above the minimal effect: enough alone, not among twenty.
    close = changed(metrics={"ndcg_at_10": gain(0.0072)})
    nothing = changed(metrics={"ndcg_at_10": gain(0.0)})
    assert decided(close).winner is close.challenger
    decision = decided(close, *[nothing] * 19)
    assert decision.winner is CHAMPION
    assert "adjusted for the number of challengers" in refusals(decision)


def test_holm_by_hand() -> None:
    # Falling factors 3, 2, 1 on 0.01, 0.02, 0.3; the second never below the first.
    assert holm([0.02, 0.3, 0.01]) == pytest.approx([0.04, 0.3, 0.03])
    assert holm([0.01, 0.011]) == pytest.approx([0.02, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    for raw, value in zip(p, adjusted, strict=True):
        assert raw - 1e-12 <= value <= min(1, raw * len(p)) + 1e-12


def test_a_gain_without_spread_is_no_chance() -> None:
    sure = changed(metrics={"ndcg_at_10": gain(0.02, error=0.0)})
    assert decided(sure).winner is sure.challenger
    none = changed(metrics={"ndcg_at_10": gain(0.0, error=0.0)})
    assert decided(none).winner is CHAMPION


def test_the_projects_policy_reads() -> None:
    assert read_policy("policy.yaml").beat_popularity


def written(folder: Path, stages: str) -> str:
    """Write the project's policy with other stages; returns the file."""
    text = POLICY_FILE.read_text("utf-8").partition("\nstages:\n")[0]
    (folder / "policy.yaml").write_text(f"{text}\nstages:\n{stages}")
    return str(folder / "policy.yaml")


@pytest.mark.parametrize("stage", ["production", "Live", "Production "])
def test_a_stage_that_nobody_knows_is_refused(stage: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'Staging', 'Production' or 'Archived'"):
        read_policy(written(tmp_path, f"  '{stage}': {{approvals: 2}}\n"))


def test_nothing_is_decided_on_a_stage_that_the_policy_leaves_out(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, "  Staging: {approvals: 0}\n"))
    assert policy.rules("Staging").approvals == 0
    with pytest.raises(UsageError, match="does not say what Production asks for: add it below"):
        policy.rules("Production")


def test_how_many_approvals_are_wanted_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'stages.Production.approvals' is missing"):
        read_policy(written(tmp_path, "  Production: {offline_days: 3}\n"))


def test_a_stage_stands_in_the_policy_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="says Production twice: leave one of them"):
        read_policy(written(tmp_path, "  Production: {approvals: 2}\n  Production: {approvals: 0}"))


# --- how often it is wrong, on drawn customers

CUSTOMERS, TRIES = 500, 600
OPEN = Policy(
    minimal_effect=0,
    beat_popularity=False,
    same_sign_in_every_window=False,
    guardrails={},
    segment_margin=1,
    smallest_segment=1,
)


def drawn(gain: float, seed: int) -> list[Pairing]:
    """Challengers with a true mean gain; most customers see no difference, a few a large one."""
    random = np.random.default_rng(seed)
    shape = (CUSTOMERS, TRIES)
    change = random.normal(gain / 0.4, 0.3, shape) * (random.random(shape) < 0.4)
    champion = random.random(shape)
    found = differences(champion, champion + change)
    return [dataclasses.replace(GOOD, metrics={"ndcg_at_10": one}, segments=[]) for one in found]


def promoted(pairings: list[Pairing], family: int = 1) -> float:
    winners = [
        decided(*pairings[first : first + family], policy=OPEN).winner
        for first in range(0, len(pairings), family)
    ]
    return float(np.mean([winner is not CHAMPION for winner in winners]))


def test_null_challengers_are_promoted_at_the_nominal_rate() -> None:
    null = drawn(0.0, seed=1)
    # 2.5 % nominal; four standard errors of 600 and of 120 draws above it.
    assert 0 < promoted(null) < 0.025 + 4 * np.sqrt(0.025 * 0.975 / TRIES)
    assert promoted(null, family=5) < 0.025 + 4 * np.sqrt(0.025 * 0.975 / (TRIES / 5))


def test_without_holm_a_family_of_null_challengers_would_promote_too_often() -> None:
    null = drawn(0.0, seed=1)
    alone = np.array([decided(p, policy=OPEN).winner is not CHAMPION for p in null])
    assert alone.reshape(-1, 5).any(axis=1).mean() > promoted(null, family=5)


def test_a_better_challenger_is_found_at_the_planned_power() -> None:
    # Variance of the mixture: 0.4 · 0.3² and what the means add, over the customers.
    error = np.sqrt(0.4 * 0.3**2 / CUSTOMERS)
    found = promoted(drawn((1.96 + 0.84) * error, seed=2))
    assert found == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / TRIES))
