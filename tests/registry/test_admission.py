"""Whether a candidate was compared with whoever holds the stage now."""

from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersion

from registry.admission import refusals, unapproved
from registry.case import Case
from registry.releases import Release
from registry.reviews import REJECT, Count, Review, Subject
from registry.rulebook import read_policy
from tests.registry.shop import decision

MODEL, REFIT, CHAMPION = "a" * 64, "b" * 64, "c" * 64
RECIPE, OTHER, POPULARITY = "als of old", "another als", "popularity"
NOBODY = Count((), (), ())
SUBJECT = Subject("promote", "recommender", "Production", MODEL, "e" * 64, None, ("joan",))


def test_what_a_reviewer_typed_is_one_line_that_steers_no_terminal() -> None:
    typed = "bad\x1b[2J\rgood\n2026-01-01  version 9 promoted \u202edlo"
    rejection = Review(REJECT, SUBJECT, "ben", typed, "2026-01-01", "ed25519:")
    (line,) = unapproved(Count((), (rejection,), ()), 0)
    assert line == "ben rejected it: bad[2J good 2026-01-01 version 9 promoted dlo"
    assert len(unapproved(Count((), (), ("x" * 5_000,)), 1)[1]) < 300


def told() -> dict[str, Any]:
    """Return a comparison that the model won against popularity."""
    found = decision("1" * 32, MODEL, 0.02)
    for entrant in found["entrants"].values():
        entrant["recipe"] = RECIPE if entrant["model_digest"] == MODEL else POPULARITY
    return found


def case(digest: str, recipe: str) -> Case:
    """Return what speaks for a model, of which the dossier judged `MODEL`."""
    version = ModelVersion("recommender-candidates", "2", 0)
    return Case(version, digest, MODEL, 1, "als", recipe, "d", {}, told(), frozenset())


def holder(digest: str, recipe: str) -> Release:
    return Release("recommender", 5, "run", digest, "dataset", "als", recipe, "models:/x")


def refused(one: Case, now: Release | None) -> list[str]:
    return refusals(one, "Production", now, read_policy(), NOBODY)


@pytest.mark.parametrize(
    "now", [None, holder(CHAMPION, POPULARITY), holder("e" * 64, POPULARITY), holder(MODEL, RECIPE)]
)
def test_the_holder_is_the_champion_of_the_comparison_or_the_model_itself(
    now: Release | None,
) -> None:
    assert refused(case(MODEL, RECIPE), now) == []


def test_another_holder_wants_another_comparison() -> None:
    found = refused(case(MODEL, RECIPE), holder("e" * 64, OTHER))
    assert found == [
        "it was compared with popularity, but version 5 (als) holds Production now: compare again"
    ]


@pytest.mark.parametrize("digest", [MODEL, "e" * 64])
def test_a_refit_may_follow_the_model_that_it_is_a_refit_of(digest: str) -> None:
    """Also an earlier refit of it."""
    assert refused(case(REFIT, RECIPE), holder(digest, RECIPE)) == []


def test_a_refit_with_other_hyperparameters_is_refused() -> None:
    assert refused(case(REFIT, OTHER), None) == [
        "its hyperparameters are not those of the model that was judged"
    ]


def test_a_refit_does_not_follow_somebody_else() -> None:
    (reason,) = refused(case(REFIT, RECIPE), holder("e" * 64, OTHER))
    assert "compare again" in reason


def test_a_model_of_the_holders_recipe_that_is_no_refit_is_compared() -> None:
    """Trained anew on other data, nobody has judged it."""
    (reason,) = refused(case(MODEL, RECIPE), holder("e" * 64, RECIPE))
    assert "compare again" in reason
