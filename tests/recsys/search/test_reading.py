"""Spaces as files: those that ship can be read, and what is wrong in one is named with its line."""

from pathlib import Path

import pytest

from experiments.search import SPACES
from recsys.errors import UsageError
from recsys.models import ALGORITHMS
from recsys.search.reading import read_spaces
from recsys.search.space import Choice, Condition, Parameter, Range

HEAD = "algorithm: item_item\nparameters:\n"
SIMILARITY = "  similarity: {type: choice, values: [cosine, lift]}\n"


def read(folder: Path, text: str, algorithm: str = "item_item") -> tuple[Parameter, ...]:
    file = folder / "space.yaml"
    file.write_text(text, "utf-8")
    return read_spaces({algorithm: file}).parameters[algorithm]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_spaces_that_ship_hold_the_defaults_and_the_retail_terms(algorithm: str) -> None:
    space = read_spaces({algorithm: SPACES / f"{algorithm}.yaml"})
    defaults = ALGORITHMS[algorithm].parameters_class()
    point = space.point_of(algorithm, defaults)
    assert point is not None
    assert space.chosen(point) == (algorithm, defaults)
    names = {parameter.name for parameter in space.parameters[algorithm]}
    assert "repeat_weight" in names
    assert names >= {"trend_power"} or algorithm == "popularity"


def test_all_kinds_of_parameters(tmp_path: Path) -> None:
    text = HEAD + SIMILARITY + (
        "  neighbours: {type: int, low: 20, high: 500, scale: log}\n"
        "  shrink: {type: float, low: 0, high: 100, when: {similarity: [lift]}}\n"
        "  half_life_days: {type: choice, values: [null, 30]}\n"
    )  # fmt: skip
    assert read(tmp_path, text) == (
        Parameter("similarity", Choice(("cosine", "lift"))),
        Parameter("neighbours", Range(20, 500, log=True, whole=True)),
        Parameter("shrink", Range(0, 100), Condition("similarity", ("lift",))),
        Parameter("half_life_days", Choice((None, 30))),
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (HEAD + "  factors: {type: int, low: 1, high: 9}", 3, "no such hyperparameter"),
        (HEAD + "  shrink: {type: float, low: 5, high: 5}", 3, "shrink: the range is empty"),
        (HEAD + "  shrink: {type: float, low: 9, high: 5}", 3, "low=9 is not below high=5"),
        (HEAD + "  shrink: {type: float, low: 0, high: 5, scale: log}", 3, "low above 0"),
        (HEAD + "  shrink: {type: float, low: -1, high: 5}", 3, "shrink=-1.0 is not usable"),
        (HEAD + "  shrink: {type: float, low: 1}", 3, "needs low and high"),
        (HEAD + "  shrink: {type: float, low: 1, high: .inf}", 3, "finite number"),
        (HEAD + "  shrink: {type: float, low: 1, hihg: 2}", 3, "unknown word 'hihg'"),
        (HEAD + "  shrink: {low: 1, high: 2}", 3, "'type' is missing"),
        (HEAD + "  shrink:\n    type: float\n    low: 1\n    high: x", 6, "valid number"),
        (HEAD + "  neighbours: {type: int, low: 1.5, high: 9}", 3, "whole numbers"),
        (HEAD + "  similarity: {type: choice, values: [cosine]}", 3, "at least two"),
        (HEAD + "  similarity: {type: choice, values: [cosine, dice]}", 3, "'dice' is not usable"),
        (HEAD + SIMILARITY + "  similarity: {type: int, low: 1, high: 2}", 4, "twice"),
        (
            HEAD + "  shrink: {type: float, low: 0, high: 5, when: {similarity: [lift]}}",
            3,
            "'similarity', which is not searched",
        ),
        (
            HEAD + SIMILARITY
            + "  shrink:\n    type: float\n    low: 0\n    high: 5\n"
            "    when: {similarity: [bm25]}",
            8,
            "shrink: its condition can never hold: similarity is never bm25",
        ),
        (
            HEAD
            + "  neighbours: {type: int, low: 1, high: 9}\n"
            + "  shrink: {type: float, low: 0, high: 5, when: {neighbours: [3]}}",
            4,
            "'neighbours', which is no choice",
        ),
        (
            HEAD
            + "  similarity: {type: choice, values: [cosine, lift], when: {max_items: [5]}}\n"
            + "  max_items: {type: choice, values: [5, 9], when: {similarity: [lift]}}",
            3,
            "similarity waits for max_items waits for similarity",
        ),
        ("algorithm: als\nparameters:\n  alpha: {type: float, low: 1, high: 2}", 1, "is for als"),
        ("algorithm: item_item\n", 1, "'parameters' is missing"),
        ("- 1\n", 1, "a mapping"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    assert f"space.yaml, line {line}: " in str(error.value)
    assert said in str(error.value)


def test_what_is_no_yaml_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not valid YAML"):
        read(tmp_path, "algorithm: [als\n")
    with pytest.raises(UsageError, match="cannot be read"):
        read_spaces({"als": tmp_path / "none.yaml"})
