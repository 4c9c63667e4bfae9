"""Where the tables of one flow lie."""

from dataclasses import dataclass
from pathlib import Path

from recsys.cli import names
from recsys.storage import Place, place_of


@dataclass(frozen=True)
class Flow:
    """The folders that the views read.

    Attributes:
        interactions: that `ingest` wrote.
        recommendations: that `batch_score` publishes to.
        results: that `measure` publishes to.
        model_name: registered model of the releases.
    """

    interactions: Place
    recommendations: tuple[Place, ...]
    results: Place
    model_name: str = "recommender"

    @property
    def places(self) -> tuple[str, ...]:
        """Return every folder as text, for the session."""
        return tuple(map(str, (self.interactions, *self.recommendations, self.results)))


def flow_of(
    root: str,
    interactions: str | None = None,
    recommendations: str | None = None,
    results: str | None = None,
    model_name: str = "recommender",
) -> Flow:
    """Return the folders below the flow's own, or those that are named.

    Args:
        root: what `main` was given as output.
        interactions: ingest's folder elsewhere.
        recommendations: published folders elsewhere, by comma.
        results: campaign results elsewhere.
        model_name: registered model of the releases.
    """
    below = _whole(root)
    published = names(recommendations)
    return Flow(
        _whole(interactions) if interactions else below / "ingested",
        tuple(map(_whole, published)) if published else (below / "recommendations",),
        _whole(results) if results else below / "campaign_results",
        model_name,
    )


def _whole(url: str) -> Place:
    """Return a whole path: the JVM may have another working directory."""
    place = place_of(url)
    return place.absolute() if isinstance(place, Path) else place
