"""A decision as plain data, and judged again: the evidence stays, the policy is the reviewers'.

`compare` writes `decision.json` with every number that its gates looked at. Whoever compares may
bring a policy of their own, so `promote` does not take the verdict: it rebuilds the pairings and
asks its own policy.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from recsys.comparison import Difference, SegmentDifference
from recsys.errors import DataError
from recsys.metrics.intervals import Interval
from registry.evidence import Entrant
from registry.policy import Decision, Gate, Pairing, Policy, Verdict, decide

DECISION_FILE = "decision.json"
# Only what tells an entrant apart; its metrics stand in the differences.
LEFT_OUT = ("metrics", "parameters")


def to_json(
    decision: Decision, metric: str, stage: str, candidate: int, tables: Mapping[str, str]
) -> dict[str, Any]:
    """Return a decision with all its evidence.

    Args:
        decision: what `compare` decided.
        metric: that decided, with its question.
        stage: whose holder was the champion.
        candidate: version that stands for the winner.
        tables: the hit tables behind the numbers: `<run>/<window>` → SHA-256.
    """
    return {
        "winner": decision.winner.run_id,
        "champion": decision.champion.run_id,
        "sentence": decision.sentence,
        "candidate": candidate,
        "metric": metric,
        "stage": stage,
        "entrants": {
            entrant.run_id: {k: v for k, v in asdict(entrant).items() if k not in LEFT_OUT}
            for entrant in (decision.champion, *(v.pairing.challenger for v in decision.verdicts))
        },
        "hit_tables": dict(sorted(tables.items())),
        "challengers": [_told(verdict) for verdict in decision.verdicts],
    }


def _told(verdict: Verdict) -> dict[str, Any]:
    """Return one challenger's evidence and verdict as plain data."""
    pairing = verdict.pairing
    return {
        "run": pairing.challenger.run_id,
        "passed": verdict.passed,
        "adjusted_p": verdict.adjusted_p,
        "gates": [asdict(gate) for gate in verdict.gates],
        "question": pairing.question,
        "metrics": {name: asdict(difference) for name, difference in pairing.metrics.items()},
        "segments": [asdict(segment) for segment in pairing.segments],
        "windows": {name: asdict(difference) for name, difference in pairing.windows.items()},
        "popularity": asdict(pairing.popularity) if pairing.popularity else None,
    }


def judged_again(told: Mapping[str, Any], policy: Policy) -> Decision:
    """Decide anew, from the evidence of an earlier decision.

    Args:
        told: what `to_json` returned.
        policy: that decides now.

    Raises:
        DataError: it is no decision, or one of an older version.
    """
    try:
        champion = _entrant(told["entrants"][told["champion"]])
        pairings = [_pairing(champion, one, told) for one in told["challengers"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(
            f"{DECISION_FILE} is not a decision that can be judged again: compare again."
        ) from None
    return decide(champion, pairings, policy)


def gates_of(decision: Decision, model_digest: str) -> list[Gate] | None:
    """Return the gates of the challenger that has a model; None where none has."""
    for verdict in decision.verdicts:
        if verdict.pairing.challenger.model_digest == model_digest:
            return list(verdict.gates)
    return None


def _entrant(told: Mapping[str, Any]) -> Entrant:
    return Entrant(**told, metrics={}, parameters={})


def _pairing(champion: Entrant, one: Mapping[str, Any], told: Mapping[str, Any]) -> Pairing:
    """Rebuild a challenger's evidence."""
    return Pairing(
        champion,
        _entrant(told["entrants"][one["run"]]),
        one["question"],
        told["metric"].rpartition("/")[2],
        {name: _difference(found) for name, found in one["metrics"].items()},
        [
            SegmentDifference(s["by"], s["label"], _difference(s["difference"]))
            for s in one["segments"]
        ],
        {name: _difference(found) for name, found in one["windows"].items()},
        _difference(one["popularity"]) if one["popularity"] else None,
    )


def _difference(told: Mapping[str, Any]) -> Difference:
    return Difference(**{**told, "interval": Interval(**told["interval"])})
