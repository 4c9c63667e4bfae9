"""The ledger in words: for the terminal, MLflow's pages, HTML and analysts' tables."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from registry.ledger import PROMOTE, Generation

NOBODY = "nobody was asked (the policy wants no approvals)"
SHOWN = 12
# What a record says whose dossier judged the model itself.
THIS = "this model"
# Characters of a reason or a comment, and of what a table or a list shows of one.
TYPED, GLANCED = 1_000, 200
# Characters of a description that MLflow keeps: PostgreSQL refuses one that is longer.
DESCRIBED = 5_000
OLDER = "- … older: `python -m registry.history`"


def plain(text: str, most: int | None = None) -> str:
    """Write what people typed in one line, without what would steer a terminal or turn the text.

    Args:
        text: what they typed.
        most: characters to keep of it; None for all.
    """
    line = "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
    return line if most is None or len(line) <= most else f"{line[: most - 1]}…"


def what(generation: Generation) -> str:
    """Say what a generation did."""
    record = generation.record
    which = f"version {record.version} ({plain(record.algorithm, GLANCED)})"
    if record.action == PROMOTE:
        return f"{which} promoted to {record.stage}"
    return f"{record.stage} rolled back to {which}"


def approved_by(generation: Generation) -> str:
    """Say who signed."""
    record = generation.record
    names = ", ".join(str(review["reviewer"]) for review in record.approvals)
    return names or ("nobody" if record.approvals_wanted else NOBODY)


def comments(generation: Generation) -> str:
    """Say what those who signed remarked, beside the reason."""
    record = generation.record
    known = ("", record.reason)
    signed = (r for r in record.approvals if r["comment"] not in known)
    return "; ".join(f"{r['reviewer']}: {r['comment']}" for r in signed)


def row(generation: Generation) -> dict[str, Any]:
    """Return one line of the history: who, when, what, why, and the evidence."""
    record = generation.record
    return {
        "stage": record.stage,
        "generation": generation.number,
        "time": generation.time,
        "action": record.action,
        "version": record.version,
        "candidate": record.candidate,
        "algorithm": record.algorithm,
        "what": what(generation),
        "reviewer": record.reviewer,
        "approved_by": approved_by(generation),
        "approvals_wanted": record.approvals_wanted,
        "comments": comments(generation),
        "reason": record.reason,
        "decision": record.sentence,
        "speaks_of": record.speaks_of,
        "authors": ", ".join(record.authors),
        "model_digest": record.model_digest,
        "dataset_digest": record.dataset_digest,
        "policy_digest": record.policy_digest,
        "evidence": "; ".join(f"{name} {digest}" for name, digest in record.evidence.items()),
        "run_id": record.run_id,
        "digest": generation.digest,
        "predecessor": record.predecessor,
    }


def told(generation: Generation) -> dict[str, str]:
    """Return the tags that a release carries in MLflow."""
    record, stage = generation.record, generation.record.stage.lower()
    return {
        f"recsys.{stage}.generation": str(generation.number),
        f"recsys.{stage}.record": generation.digest,
        f"recsys.{stage}.since": generation.time,
        f"recsys.{stage}.reviewer": plain(record.reviewer),
        f"recsys.{stage}.approved_by": plain(approved_by(generation)),
        f"recsys.{stage}.reason": plain(record.reason) or "none given",
    }


def version_note(version: int, stages: Mapping[str, Sequence[Generation]]) -> str:
    """Write the description of a release: what the ledger says of it, the newest first.

    Who took a stage from it belongs there, too. What no longer fits is left to `history`.
    """
    own = [g for history in stages.values() for g in history if g.record.version == version]
    lost = [
        after
        for history in stages.values()
        for before, after in pairwise(history)
        if before.record.version == version != after.record.version
    ]
    record = max(own, key=lambda g: g.time).record
    lines = [
        plain(record.sentence, TYPED),
        "",
        f"The dossier speaks of {plain(record.speaks_of, TYPED)}. Copied from version "
        f"{record.candidate} of {record.model_name}-candidates; model "
        f"`{record.model_digest[:SHOWN]}`, dataset `{record.dataset_digest[:SHOWN]}`.",
        "",
    ]
    room = DESCRIBED - len("\n".join([*lines, OLDER]))
    for g in sorted(own + lost, key=lambda g: g.time, reverse=True):
        line = _line(g)
        room -= len(line) + 1
        if room < 0:
            return "\n".join([*lines, OLDER])
        lines.append(line)
    return "\n".join(lines)


def _line(g: Generation) -> str:
    """Write one decision as a line of Markdown."""
    by, why = _escaped(g.record.reviewer), _escaped(g.record.reason or "no reason given")
    return (
        f"- **{minute(g.time)}** {what(g)} · by {by} · approved by: {_escaped(approved_by(g))} "
        f"· why: {why}"
    )


def minute(time: str) -> str:
    """Write a time (ISO 8601) to the minute."""
    return time[:16].replace("T", " ")


def _escaped(text: str) -> str:
    """Write what people typed so that it stays one line, and nothing in it is Markdown or HTML."""
    return re.sub(r"([\\`*_<>\[\]])", r"\\\1", plain(text, GLANCED))
