"""What a new table must satisfy before readers see it: pure functions, counts → findings.

Limits stand in `audits.yaml`; a strategy's or retailer's own file may replace it
(`batch_score --audits FILE`). A run that fails one is published only with a reason
(`--accept "overlap=new catalogue"`), which the manifest records.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from recsys.config import Config
from recsys.errors import PublishError, UsageError

LIMITS = Path(__file__).parent / "audits.yaml"


class AuditRefusedError(PublishError):
    """The new table failed an audit; readers still see the previous one."""

    exit_code = 3


class Limits(Config):
    """How far a table may be from what is expected, and from the last one of its strategy."""

    least_customers: int = Field(1, ge=0, description="customers in the audience")
    customers_change: float = Field(
        0.5, gt=0, description="change of the audience's size against the last run"
    )
    rows_change: float = Field(
        0.5, gt=0, description="change of the number of recommendations against the last run"
    )
    least_coverage: float = Field(
        0.005, ge=0, le=1, description="share of the allowed items that anybody is given"
    )
    coverage_drop: float = Field(0.5, gt=0, le=1, description="fall of the coverage, as a share")
    top_items_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the rows that the ten items given most may have; 1: any, as a "
        "popularity model needs",
    )
    top_items_rise: float = Field(
        0.2, gt=0, le=1, description="rise of that share against the last run, in points"
    )
    least_overlap: float = Field(
        0.02, ge=0, le=1, description="share of the last run's items that a customer gets again"
    )
    score_change: float = Field(
        1.0,
        gt=0,
        description="change of the mean score against the last run of the same version, in "
        "standard deviations of that run's scores",
    )
    fallback_share: float = Field(
        0.5, ge=0, le=1, description="share of the rows that come from popularity"
    )
    short_share: float = Field(
        0.1, ge=0, le=1, description="share of the customers with fewer than k items"
    )


@dataclass(frozen=True)
class Counts:
    """What a run's blocks add up to.

    Attributes:
        customers: in the audience.
        control: of these held out.
        short: of these with fewer than k items.
        rows: recommendations.
        personal: of these by the model.
        duplicates: items that a customer was given twice.
        missing: customers of the strategy who are not in the audience table.
        coverage: share of the allowed items that anybody was given.
        top_items_share: share of the rows that the ten items given most have.
        mean_score: of the personal rows; 0 where there are none.
        score_spread: standard deviation of the same scores.
        overlap: share of the last run's items that its customers get again; None where there is
            none to compare with, or the strategy lets items rest.
        model: name and version, between whose scores a comparison makes sense.
    """

    customers: int
    control: int
    short: int
    rows: int
    personal: int
    duplicates: int
    missing: int
    coverage: float
    top_items_share: float
    mean_score: float
    score_spread: float
    overlap: float | None
    model: str


@dataclass(frozen=True)
class Finding:
    """One audit's answer.

    Attributes:
        audit: its name, as `--accept` takes it.
        passed: the limit holds.
        value: what was found.
        limit: what is allowed, in words.
        accepted: why it was published all the same; empty where it passed.
    """

    audit: str
    passed: bool
    value: float
    limit: str
    accepted: str = ""


def audit(new: Counts, last: Counts | None, limits: Limits) -> list[Finding]:
    """Hold a run's counts against limits and against the last run of the strategy.

    Args:
        new: the run.
        last: the last published run of the same strategy; None for the first.
        limits: what is allowed.
    """
    given = max(1, new.rows)
    treated = max(1, new.customers - new.control)
    found = [
        _exact("missing_customers", new.missing, "every customer of the audience once"),
        _exact("duplicates", new.duplicates, "no item twice for a customer"),
        _least("customers", new.customers, limits.least_customers),
        _least("coverage", new.coverage, limits.least_coverage),
        _most("top_items_share", new.top_items_share, limits.top_items_share),
        _most("fallback_share", (new.rows - new.personal) / given, limits.fallback_share),
        _most("short_share", new.short / treated, limits.short_share),
    ]
    if last is None:
        return found
    found += [
        _change("customers_change", new.customers, last.customers, limits.customers_change),
        _change("rows_change", new.rows, last.rows, limits.rows_change),
        _least("coverage_drop", new.coverage, (1 - limits.coverage_drop) * last.coverage),
        _most("top_items_rise", new.top_items_share - last.top_items_share, limits.top_items_rise),
    ]
    if new.overlap is not None:
        found.append(_least("overlap", new.overlap, limits.least_overlap))
        if new.model == last.model:
            moved = abs(new.mean_score - last.mean_score) / max(last.score_spread, 1e-9)
            found.append(_most("score_change", moved, limits.score_change))
    return found


def decided(findings: list[Finding], accepted: Mapping[str, str]) -> list[Finding]:
    """Return the findings with the reasons for what is accepted.

    Args:
        findings: of `audit`.
        accepted: audit → reason.

    Raises:
        AuditRefusedError: an audit failed and is not accepted.
    """
    result = [
        Finding(f.audit, f.passed, f.value, f.limit, "" if f.passed else accepted.get(f.audit, ""))
        for f in findings
    ]
    refused = [f for f in result if not f.passed and not f.accepted]
    if refused:
        told = "; ".join(f"{f.audit} is {f.value:.4g}, allowed is {f.limit}" for f in refused)
        raise AuditRefusedError(
            f"Not published, the previous table stands: {told}. Look into it; if it is right as "
            f'it is, run again with --accept "{refused[0].audit}=the reason".'
        )
    return result


def accepted_from(text: str | None) -> dict[str, str]:
    """Read `AUDIT=reason; AUDIT=reason`.

    Raises:
        UsageError: a reason is missing, or there is no such audit.
    """
    found = {}
    for piece in filter(None, (piece.strip() for piece in (text or "").split(";"))):
        name, _, reason = (part.strip(" \"'") for part in piece.partition("="))
        if not reason:
            raise UsageError(f'--accept {piece}: give a reason, as in --accept "{name}=…".')
        if name not in AUDITS:
            raise UsageError(
                f"--accept {name}: there is no such audit (there are {', '.join(AUDITS)})."
            )
        found[name] = reason
    return found


AUDITS = (
    "missing_customers", "duplicates", "customers", "coverage", "top_items_share",
    "fallback_share", "short_share", "customers_change", "rows_change", "coverage_drop",
    "top_items_rise", "overlap", "score_change",
)  # fmt: skip


def _exact(name: str, value: int, limit: str) -> Finding:
    return Finding(name, value == 0, value, limit)


def _least(name: str, value: float, limit: float) -> Finding:
    return Finding(name, value >= limit, value, f"at least {limit:.4g}")


def _most(name: str, value: float, limit: float) -> Finding:
    return Finding(name, value <= limit, value, f"at most {limit:.4g}")


def _change(name: str, new: float, last: float, limit: float) -> Finding:
    """Compare sizes as a ratio, so that a half and a double are equally far."""
    ratio = abs(new / last - 1) if last else (0.0 if new == last else float("inf"))
    return Finding(name, ratio <= limit, ratio, f"a change of at most {limit:.0%}")
