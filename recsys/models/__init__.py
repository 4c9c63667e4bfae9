"""The recommenders: one file each, and one line here."""

from recsys.models.als import Als
from recsys.models.base import Recommender
from recsys.models.item_item import ItemItem
from recsys.models.popularity import Popularity

ALGORITHMS: dict[str, type[Recommender]] = {
    recommender.name: recommender for recommender in (Popularity, ItemItem, Als)
}
