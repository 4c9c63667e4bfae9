"""The page of a refit: which model is which, what passed, whose lists changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.data.dataset import History
from registry.dossier.refit import Facts, examples, picture, render
from registry.refit_checks import Check, Kept, Likeness, Lists
from tests.recsys.builders import history_of

FACTS = Facts("shop-candidates", 3, "als factors=8", "2024-03-27", "2024-04-09", "a" * 64, "b" * 64)
# Customer c001 keeps no item, c000 one of two, c002 both.
EVALUATED = np.array([["i000", "i001"], ["i000", "i001"], ["i002", "i003"]])
REFITTED = np.array([["i001", "i004"], ["i004", "i005"], ["i003", "i002"]])
CHECKS = [Check("items", 1.0, True, "all are there"), Check("shelf", 0.4, False, "too few <b>")]


@pytest.fixture
def history(tmp_path: Path) -> History:
    events = [(0, 5, 20), (0, 4, 25), (1, 3, 22), (2, 0, 21)]
    return history_of(tmp_path, events, customers=3, items=6, before=30)


def found() -> Likeness:
    scores, personal = np.ones((3, 2), np.float32), np.ones((3, 2), bool)
    return Likeness(
        ["c000", "c001", "c002"],
        Lists(EVALUATED, scores, personal),
        Lists(REFITTED, 2 * scores, personal),
        Kept(6, 7, 5),
        Kept(3, 4, 3),
    )


def test_customers_are_shown_from_the_least_to_the_most_alike_lists(history: History) -> None:
    shown = examples(found(), history)
    assert [(customer.id, customer.overlap) for customer in shown] == [
        ("c001", 0),
        ("c000", 0.5),
        ("c002", 1),
    ]
    assert shown[1].bought == ["item 4", "item 5"]
    assert shown[1].evaluated == [("item 0", False), ("item 1", True)]
    assert shown[1].refit == [("item 1", True), ("item 4", False)]


def test_an_item_without_a_name_is_shown_by_its_id(history: History) -> None:
    lists = found()
    gone = np.where(EVALUATED == "i000", "gone", EVALUATED)
    shown = examples(replace(lists, evaluated=replace(lists.evaluated, items=gone)), history)
    assert shown[0].evaluated[0] == ("gone", False)


def test_the_page_says_of_which_model_the_dossier_speaks(history: History) -> None:
    page = render(FACTS, found(), CHECKS[:1], examples(found(), history))
    assert (
        "Refit of version 3 on all interactions until 2024-04-09; the dossier speaks of version 3, "
        "which was fitted on all before 2024-03-27."
    ) in page
    assert "✓ passed: still the model that was evaluated" in page
    assert "✗" not in page


def test_the_page_of_a_refused_refit_says_so_and_why(history: History) -> None:
    page = render(FACTS, found(), CHECKS, examples(found(), history))
    assert "✗ refused: not a candidate" in page
    assert "too few &lt;b&gt;" in page


def test_the_page_needs_no_network(history: History) -> None:
    page = render(FACTS, found(), CHECKS, examples(found(), history))
    assert "://" not in page
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_what_the_data_says_is_text_and_never_markup(history: History) -> None:
    customers = examples(found(), history)
    evil = replace(customers[0], id="<script>alert(1)</script>")
    page = render(FACTS, found(), CHECKS, [evil])
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_picture_shows_both_models_scores() -> None:
    left, right = picture(found()).axes
    # One customer each with 0, 5 and 10 of ten.
    heights = [bar.get_height() for bar in left.patches]
    assert [place for place, height in enumerate(heights) if height] == [0, 5, 10]
    assert {text.get_text() for text in right.get_legend().get_texts()} == {"evaluated", "refit"}
