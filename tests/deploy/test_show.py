"""A published table as people read it."""

from pathlib import Path

import pytest

from deploy.pipeline import Outcome
from deploy.show import ShowConfig, evenly, shown
from recsys.errors import DataError


def test_customers_are_shown_with_their_items_in_words(outcome: Outcome, place: Path) -> None:
    output, interactions = str(place / "out" / "recommendations"), str(place / "out" / "ingested")
    config = ShowConfig(output=output, interactions=interactions, customers=7, items=3)
    head, names, line, *rows = shown(config)
    assert head.startswith("**next_best_products**")
    assert (names.count("|"), line) == (4, "|---|---|---|")
    assert len(rows) == 7
    for row in rows:
        _, customer, _, recommended, _ = row.split("|")
        assert customer.strip()
        assert recommended.count(" · ") == 2


def test_ids_are_drawn_evenly() -> None:
    assert evenly(["a", "b", "c", "d", "e"], 3) == ["a", "c", "e"]
    assert evenly(["a", "b"], 5) == ["a", "b"]


def test_a_folder_without_interactions_is_refused(outcome: Outcome, place: Path) -> None:
    config = ShowConfig(output=str(place / "out" / "recommendations"), interactions="nowhere")
    with pytest.raises(DataError, match="is no table: give the folder that `ingest` wrote"):
        list(shown(config))
