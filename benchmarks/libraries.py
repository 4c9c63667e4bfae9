"""Our metrics as other libraries compute them, each library by its own definition.

`benchmarks.parity` runs this file once a library, in an environment of that library:

    python benchmarks/libraries.py rectools FOLDER

The folder holds recommendations.csv (customer, item, rank), truth.csv (customer, item, revenue),
purchases.csv (customer, item) and items.csv (item, category); the values go to rectools.csv
(metric, customer, value) and the versions to rectools.json. Needs nothing of this project.
"""

import importlib.metadata
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

Lists = dict[int, list[int]]  # customer → recommended items, best first
Truth = dict[int, dict[int, int]]  # customer → relevant item → what it was bought for
Values = dict[str, dict[int, float]]  # name such as ndcg_at_10 → customer → value

KS = (1, 5, 10, 20)
# The customer under which the values stand that a library gives for all customers together.
EVERYBODY = -1
PACKAGES = {
    "ranx": "ranx",
    "pytrec_eval": "pytrec-eval-terrier",
    "rectools": "rectools",
    "recommenders": "recommenders",
}


@dataclass(frozen=True)
class Case:
    """What is judged: recommendations, truth, purchases before, and a category an item."""

    recommendations: pd.DataFrame
    truth: pd.DataFrame
    purchases: pd.DataFrame
    items: pd.DataFrame

    def write(self, folder: Path) -> None:
        """Write the tables for another process."""
        for name, table in vars(self).items():
            table.to_csv(folder / f"{name}.csv", index=False)

    @classmethod
    def read(cls, folder: Path) -> "Case":
        """Read what `write` wrote."""
        return cls(**{name: pd.read_csv(folder / f"{name}.csv") for name in cls.__annotations__})

    def lists(self) -> Lists:
        """Return each customer's list; a customer of the truth without one has an empty list."""
        lists: Lists = {int(customer): [] for customer in self.truth["customer"].unique()}
        ordered = self.recommendations.sort_values(["customer", "rank"])
        for customer, items in ordered.groupby("customer")["item"]:
            lists[int(customer)] = items.tolist()
        return lists

    def relevant(self) -> Truth:
        """Return each customer's relevant items with their revenue."""
        return {
            int(customer): dict(zip(rows["item"], rows["revenue"], strict=True))
            for customer, rows in self.truth.groupby("customer")
        }


def ranx_values(lists: Lists, truth: Truth, ks: tuple[int, ...]) -> Values:
    """Return ranx's values; its lists are ordered by a score, so place r of n scores n - r."""
    from ranx import Qrels, Run, evaluate

    names = {
        "precision": "precision",
        "recall": "recall",
        "ndcg": "ndcg",
        "map": "map",
        "mrr": "mrr",
        "hit_rate": "hit_rate",
    }
    run = Run(_scored(lists))
    values: Values = {}
    for prefix, gains in (("", _binary(truth)), ("revenue_", truth)):
        wanted = {"ndcg": "ndcg"} if prefix else names
        theirs = {
            f"{prefix}{our}_at_{k}": f"{name}@{k}" for our, name in wanted.items() for k in ks
        }
        evaluate(Qrels(_labelled(gains)), run, list(theirs.values()), return_mean=False)
        for our, name in theirs.items():
            values[our] = {int(c): float(value) for c, value in run.scores[name].items()}
    return values


def trec_values(lists: Lists, truth: Truth, ks: tuple[int, ...]) -> Values:
    """Return trec_eval's values; it knows no cut for recip_rank, which stands at every k."""
    names = {
        "precision": "P_{k}",
        "recall": "recall_{k}",
        "ndcg": "ndcg_cut_{k}",
        "map": "map_cut_{k}",
        "mrr": "recip_rank",
        "hit_rate": "success_{k}",
    }
    binary = _trec(lists, _binary(truth), [name.format(k=k) for name in names.values() for k in ks])
    values = {f"{our}_at_{k}": binary[name.format(k=k)] for our, name in names.items() for k in ks}
    graded = _trec(lists, truth, [f"ndcg_cut_{k}" for k in ks])
    return values | {f"revenue_ndcg_at_{k}": graded[f"ndcg_cut_{k}"] for k in ks}


def _trec(lists: Lists, truth: Truth, measures: list[str]) -> Values:
    """Return measures under trec_eval's names."""
    from pytrec_eval import RelevanceEvaluator

    found = RelevanceEvaluator(_labelled(truth), set(measures)).evaluate(_scored(lists))
    return {m: {int(c): values[m] for c, values in found.items()} for m in measures}


def _binary(truth: Truth) -> Truth:
    """Return every relevant item with the gain 1."""
    return {customer: dict.fromkeys(items, 1) for customer, items in truth.items()}


def _labelled(table: Truth) -> dict[str, dict[str, int]]:
    """Return ids as text of one width: ranx compiles itself anew for each width of an item id."""
    return {
        f"{customer:08d}": {f"{item:08d}": int(gain) for item, gain in items.items()}
        for customer, items in table.items()
    }


def _scored(lists: Lists) -> dict[str, dict[str, float]]:
    """Return lists as scores without ties."""
    return {
        f"{customer:08d}": {f"{item:08d}": float(len(items) - r) for r, item in enumerate(items)}
        for customer, items in lists.items()
    }


def of_ranx(case: Case) -> Values:
    """Return ranx's values of a case."""
    return ranx_values(case.lists(), case.relevant(), KS)


def of_pytrec_eval(case: Case) -> Values:
    """Return trec_eval's values of a case."""
    return trec_values(case.lists(), case.relevant(), KS)


def of_rectools(case: Case) -> Values:
    """Return RecTools' values, every option as it is by default."""
    from rectools import metrics as m

    names = {"customer": "user_id", "item": "item_id"}
    shown, truth, bought = (
        table.rename(columns=names) for table in (case.recommendations, case.truth, case.purchases)
    )
    distance = m.PairwiseHammingDistanceCalculator(case.items.set_index("item")[["category"]])
    judged = {
        "precision": m.Precision,
        "recall": m.Recall,
        "ndcg": m.NDCG,
        "map": m.MAP,
        "mrr": m.MRR,
        "hit_rate": m.HitRate,
    }
    values: Values = {}
    for k in KS:
        for name, metric in judged.items():
            values[f"{name}_at_{k}"] = metric(k=k).calc_per_user(shown, truth).to_dict()
        values[f"novelty_at_{k}"] = m.MeanInvUserFreq(k=k).calc_per_user(shown, bought).to_dict()
        diversity = m.IntraListDiversity(k=k, distance_calculator=distance)
        values[f"diversity_at_{k}"] = diversity.calc_per_user(shown).to_dict()
        coverage = m.CatalogCoverage(k=k, normalize=True).calc(shown, case.items["item"])
        values[f"coverage_at_{k}"] = {EVERYBODY: coverage}
    return values


def of_recommenders(case: Case) -> Values:
    """Return the values of recommenders: of all customers together, but for diversity."""
    import numpy as np
    from recommenders.evaluation import python_evaluation as e

    names = {"customer": "userID", "item": "itemID", "revenue": "rating"}
    shown, truth, bought = (
        table.rename(columns=names) for table in (case.recommendations, case.truth, case.purchases)
    )
    shown["prediction"] = -shown["rank"].astype(float)
    shown = shown.drop(columns="rank")
    category = np.eye(case.items["category"].max() + 1)[case.items["category"]]
    features = pd.DataFrame({"itemID": case.items["item"], "features": list(category)})
    values: Values = {}
    for k in KS:
        means = {
            "precision": e.precision_at_k(truth, shown, k=k),
            "recall": e.recall_at_k(truth, shown, k=k),
            "ndcg": e.ndcg_at_k(truth, shown, k=k),
            "map": e.map_at_k(truth, shown, k=k),
            "revenue_ndcg": e.ndcg_at_k(truth, shown, k=k, score_type="raw"),
        }
        top = shown[shown["prediction"] >= -k][["userID", "itemID"]]
        means["novelty"] = e.novelty(bought, top)
        means["coverage"] = e.catalog_coverage(bought, top)
        values |= {f"{name}_at_{k}": {EVERYBODY: value} for name, value in means.items()}
        diversity = e.user_diversity(
            bought, top, item_feature_df=features, item_sim_measure="item_feature_vector"
        )
        values[f"diversity_at_{k}"] = diversity.set_index("userID")["user_diversity"].to_dict()
    return values


LIBRARIES: dict[str, Callable[[Case], Values]] = {
    "ranx": of_ranx,
    "pytrec_eval": of_pytrec_eval,
    "rectools": of_rectools,
    "recommenders": of_recommenders,
}


def main(library: str, folder: Path) -> None:
    """Compute one library's values of the case in a folder and write them beside it."""
    values = LIBRARIES[library](Case.read(folder))
    rows = [(name, c, float(v)) for name, found in values.items() for c, v in found.items()]
    table = pd.DataFrame(rows, columns=["metric", "customer", "value"])
    table.to_csv(folder / f"{library}.csv", index=False)
    versions = {
        "library": f"{PACKAGES[library]} {importlib.metadata.version(PACKAGES[library])}",
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "pandas": pd.__version__,
    }
    (folder / f"{library}.json").write_text(json.dumps(versions), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
