"""Strategies as files: what they may say, and what is refused."""

from pathlib import Path

import pytest

from recsys.errors import UsageError
from recsys.strategy import STRATEGIES, Strategy, explained, load_strategy

SHIPPED = sorted(path.stem for path in STRATEGIES.glob("*.yaml"))


def loaded(tmp_path: Path, text: str) -> Strategy:
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    return load_strategy(str(file), STRATEGIES)


def test_four_strategies_serve_the_business() -> None:
    assert SHIPPED == ["complete_the_basket", "next_best_products", "replenish", "win_back"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_strategy_is_named_as_its_file_and_says_what_it_means(name: str) -> None:
    strategy = load_strategy(name, STRATEGIES)
    assert strategy.name == name
    text = explained(strategy)
    assert strategy.description in text
    assert f"{strategy.k} items a customer" in text
    assert (strategy.audience or "everyone") in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ncolour: red", "unknown parameter 'colour'"),
        ("name: a\nitems: {inclde: x}", "items.inclde"),
        ("name: a b", "name='a b' is not usable"),
        ("k: 3", "parameter 'name' is missing"),
        ("name: a\nk: 0", "k=0 is not usable"),
        ("name: a\nseen: never", "seen"),
        ("name: a\nseen: 0", "seen"),
        ("name: a\nhold_out: {share: 1.0}", "hold_out.share=1.0 is not usable"),
        ("name: a\nladder: [popularity, model]", "in the order model, fold_in"),
        ("name: a\nladder: []", "ladder"),
        ("- a", "must be a YAML mapping"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        loaded(tmp_path, text)


def test_an_unknown_strategy_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="complete_the_basket, next_best_products, replenish"):
        load_strategy("nothing", STRATEGIES)


def test_rules_by_category_are_explained(tmp_path: Path) -> None:
    strategy = loaded(
        tmp_path,
        "name: a\nseen: {others: exclude, categories: {Coffee: allow, Mugs: 30}}\nrest_runs: 2\n",
    )
    text = explained(strategy)
    assert "Coffee: may be given again; Mugs: left out for 30 days" in text
    assert "other categories: left out" in text
    assert "not again within 2 runs" in text


def test_an_availability_list_is_found_beside_the_strategy(tmp_path: Path) -> None:
    strategy = loaded(tmp_path, "name: a\nitems: {available: stock.csv}")
    assert strategy.items.available == str(tmp_path / "stock.csv")


def test_the_digest_changes_with_anything_that_is_said(tmp_path: Path) -> None:
    digests = {
        loaded(tmp_path, text).digest
        for text in ("name: a", "name: b", "name: a\nk: 11", "name: a\nhold_out: {salt: x}")
    }
    assert len(digests) == 4
    assert loaded(tmp_path, "name: a").digest == loaded(tmp_path, "name: a\nk: 10").digest
