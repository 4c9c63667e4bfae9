"""Audits: each one stops what it is for, and lets pass what it should."""

from dataclasses import asdict, replace

import pytest

from deploy.audits import (
    AUDITS,
    LIMITS,
    AuditRefusedError,
    Counts,
    Limits,
    accepted_from,
    audit,
    decided,
)
from recsys.errors import UsageError

GOOD = Counts(
    customers=1000,
    control=100,
    short=0,
    rows=9000,
    personal=8900,
    duplicates=0,
    missing=0,
    coverage=0.4,
    top_items_share=0.1,
    mean_score=0.5,
    score_spread=0.2,
    overlap=0.6,
    model="recommender/1",
)


def failed(new: Counts, last: Counts | None = GOOD) -> list[str]:
    return [finding.audit for finding in audit(new, last, Limits()) if not finding.passed]


def test_a_good_table_passes_every_audit() -> None:
    findings = audit(GOOD, GOOD, Limits())
    assert [finding.audit for finding in findings] == list(AUDITS_IN_ORDER)
    assert failed(GOOD) == failed(GOOD, None) == []
    assert set(AUDITS_IN_ORDER) == set(AUDITS)


AUDITS_IN_ORDER = [finding.audit for finding in audit(GOOD, GOOD, Limits())]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"missing": 1}, "missing_customers"),
        ({"duplicates": 1}, "duplicates"),
        ({"customers": 400, "control": 0}, "customers_change"),
        ({"customers": 2000}, "customers_change"),
        ({"rows": 3000, "personal": 3000}, "rows_change"),
        ({"coverage": 0.1}, "coverage_drop"),
        ({"coverage": 0.001}, "coverage"),
        ({"top_items_share": 0.35}, "top_items_rise"),
        ({"overlap": 0.01}, "overlap"),
        ({"mean_score": 0.75}, "score_change"),
        ({"personal": 100}, "fallback_share"),
        ({"short": 500}, "short_share"),
    ],
)
def test_each_audit_stops_what_it_is_for(change: dict[str, float], name: str) -> None:
    assert name in failed(Counts(**asdict(GOOD) | change))


def test_an_empty_audience_is_refused() -> None:
    nobody = replace(GOOD, customers=0, control=0, rows=0, personal=0)
    assert "customers" in failed(nobody, None)


def test_scores_of_another_version_are_not_compared() -> None:
    other = replace(GOOD, mean_score=5.0, model="recommender/2")
    assert failed(other) == []


def test_a_refusal_names_the_audit_and_the_way_out() -> None:
    findings = audit(replace(GOOD, overlap=0.001), GOOD, Limits())
    with pytest.raises(AuditRefusedError, match=r"previous table stands: overlap is 0\.001") as e:
        decided(findings, {})
    assert e.value.exit_code == 3
    assert '--accept "overlap=the reason"' in str(e.value)


def test_what_was_accepted_is_recorded_with_its_reason() -> None:
    findings = audit(replace(GOOD, overlap=0.001), GOOD, Limits())
    accepted = decided(findings, accepted_from("overlap=new catalogue"))
    assert {f.audit: f.accepted for f in accepted if f.accepted} == {"overlap": "new catalogue"}


def test_a_reason_is_not_recorded_where_the_audit_passed() -> None:
    accepted = decided(audit(GOOD, GOOD, Limits()), {"overlap": "just in case"})
    assert not any(f.accepted for f in accepted)


def test_accepting_one_audit_does_not_accept_another() -> None:
    findings = audit(replace(GOOD, overlap=0.001, duplicates=3), GOOD, Limits())
    with pytest.raises(AuditRefusedError, match="duplicates is 3"):
        decided(findings, {"overlap": "new catalogue"})


@pytest.mark.parametrize(
    ("text", "message"),
    [("overlap", "give a reason"), ("overlap=", "give a reason"), ("taste=bad", "no such audit")],
)
def test_what_is_accepted_needs_a_name_and_a_reason(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        accepted_from(text)


def test_several_audits_can_be_accepted() -> None:
    assert accepted_from('overlap=new range; "coverage=a test"') == {
        "overlap": "new range",
        "coverage": "a test",
    }


def test_the_file_of_limits_says_what_the_code_has_as_default() -> None:
    assert Limits.from_yaml(LIMITS.read_text("utf-8"), str(LIMITS)) == Limits()
