"""The dossier's words: what metrics and gates mean to a reader who is no data scientist."""

from dataclasses import dataclass

from recsys.comparison import Difference
from registry.policy import OTHER_QUESTION

QUESTION_MEANINGS = {
    "discover": "What will customers buy that they have never bought before?",
    "replenish": "What will customers buy, whether for the first time or again?",
    "campaign": "What will customers buy of that which the strategy lets them be given?",
}


@dataclass(frozen=True)
class Term:
    """A metric in plain words.

    Attributes:
        name: how it is called.
        meaning: what it measures, in a line.
        up: what a reliable rise means.
        down: what a reliable fall means.
    """

    name: str
    meaning: str
    up: str = "better"
    down: str = "worse"


TERMS = {
    "ndcg": Term(
        "ndcg",
        "How many of the bought items the list holds and how near the top they stand; "
        "1 is a perfect list.",
    ),
    "recall": Term("recall", "Share of what the customer bought that the list holds."),
    "precision": Term("precision", "Share of the list that the customer bought."),
    "hit_rate": Term("hit rate", "Share of the customers who bought anything from their list."),
    "map": Term("map", "How cleanly the hits stand in front of the misses; 1 is perfect."),
    "mrr": Term(
        "mrr", "1 where the first item was bought, ½ where the second was the first hit, …"
    ),
    "revenue_recall": Term(
        "revenue recall", "Share of the money that the customer spent on items in the list."
    ),
    "revenue_ndcg": Term(
        "revenue ndcg", "As ndcg, but an item counts by the money that was spent on it."
    ),
    "coverage": Term("coverage", "Share of all items that anybody is recommended."),
    "novelty": Term("novelty", "How rarely bought the recommended items are, in bits."),
    "diversity": Term("diversity", "How often two items of a list are of different categories."),
    "popular_share": Term(
        "popular share",
        "Share of the recommendations that go to the tenth of the items bought most; "
        "neither high nor low is better in itself.",
        up="more bestsellers",
        down="fewer bestsellers",
    ),
    "gini": Term(
        "gini",
        "How unevenly recommendations are spread over the items: 0 all alike, 1 all to one; "
        "neither high nor low is better in itself.",
        up="narrower spread",
        down="wider spread",
    ),
}
GATES = {
    "gain": "The gain is large enough",
    "several challengers": "The gain is not the luck of many tries",
    "popularity": "It beats a plain list of bestsellers",
    OTHER_QUESTION: "The other question does not suffer",
}


def term(metric: str) -> Term:
    """Return a metric's words; its own name where it has none.

    Args:
        metric: such as `ndcg_at_10`.
    """
    name, _, k = metric.partition("_at_")
    known = TERMS.get(name, Term(name.replace("_", " "), ""))
    return Term(f"{known.name}@{k}" if k else known.name, known.meaning, known.up, known.down)


def direction(found: Difference) -> str:
    """Tell by the interval: up, down, equal or unclear."""
    interval = found.interval
    if interval.low > 0:
        return "up"
    if interval.high < 0:
        return "down"
    return "equal" if interval.low == interval.high == 0 else "unclear"


def gate_title(name: str) -> str:
    """Say what a gate asks for."""
    if name in GATES:
        return GATES[name]
    if ":" in name:
        return f"Customers do not suffer ({name})"
    if "_at_" in name:
        return f"{term(name).name} does not suffer"
    return f"The earlier window {name} agrees"
