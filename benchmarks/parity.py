"""Compare our metrics with those of four libraries: `python -m benchmarks.parity > table.md`.

Draws lists, truth, purchases and categories (seeded, so the table can be made again), lets every
library compute its own values, and writes to stdout, in Markdown, the largest absolute difference
of each metric and library over k = 1, 5, 10 and 20: as the library comes, and after its known
difference of definition is undone; beside them the means at 10.

ranx and pytrec_eval run in the project's environment, RecTools and recommenders in one each that
uv makes and throws away, with Python 3.11: RecTools' pins do not fit ours, recommenders brings too
much. A library that cannot be installed or run is told with the reason.

    python -m benchmarks.parity --seed 7 --customers 500 --items 200

Takes about a minute, the first time another to fetch packages and to compile ranx. Progress goes
to stderr.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import command
from benchmarks.libraries import EVERYBODY, KS, Case
from recsys.metrics import beyond_accuracy
from recsys.metrics.ranking import per_customer, per_customer_revenue

ISOLATED = {"rectools": "rectools==0.19.0", "recommenders": "recommenders==1.2.1"}
LIBRARIES = ("ranx", "pytrec_eval", *ISOLATED)
CATEGORIES = 8
# Items that are bought in the window but were never seen before, so nobody could recommend them.
UNKNOWN = 10

Pair = tuple[pd.Series, pd.Series]


# ------------------------------------------------------------------------------- what is judged


def draw_case(seed: int, customers: int, items: int) -> Case:
    """Draw lists of 0 to 25 items, 1 to 30 relevant items and purchases, popular items first."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, items + 1)
    # The last 2 % of the catalogue has never been bought.
    weights[-max(1, items // 50) :] = 0
    weights /= weights.sum()
    tables: dict[str, list[tuple[int, ...]]] = {"bought": [], "shown": [], "relevant": []}
    for customer in range(customers):
        bought = random.choice(items, random.integers(1, 20), replace=False, p=weights)
        new = np.setdiff1d(np.arange(items), bought)
        shown = random.permutation(new)[: _length(random)]
        wanted = np.append(new, np.arange(items, items + UNKNOWN))
        relevant = random.choice(wanted, random.integers(1, 31), replace=False)
        # Half of the lists know something of the truth.
        if customer % 2:
            known = np.intersect1d(relevant, new)[: len(shown) // 3]
            shown = random.permutation(np.append(known, np.setdiff1d(shown, known)))[: len(shown)]
        revenue = random.integers(1, 500, len(relevant))
        tables["bought"] += [(customer, item) for item in bought]
        tables["shown"] += [(customer, item, rank) for rank, item in enumerate(shown, start=1)]
        tables["relevant"] += [(customer, *pair) for pair in zip(relevant, revenue, strict=True)]
    catalogue = [(item, int(random.integers(CATEGORIES))) for item in range(items)]
    return Case(
        recommendations=pd.DataFrame(tables["shown"], columns=["customer", "item", "rank"]),
        truth=pd.DataFrame(tables["relevant"], columns=["customer", "item", "revenue"]),
        purchases=pd.DataFrame(tables["bought"], columns=["customer", "item"]),
        items=pd.DataFrame(catalogue, columns=["item", "category"]),
    )


def _length(random: np.random.Generator) -> int:
    """Return the length of a list: one in twenty is empty, one in four is short."""
    chance = random.random()
    if chance < 0.05:
        return 0
    return int(random.integers(1, 20)) if chance < 0.3 else int(random.integers(20, 26))


@dataclass(frozen=True)
class Arrays:
    """A case in the form that our metrics take; rows are `customers`."""

    case: Case

    @cached_property
    def customers(self) -> NDArray[np.int64]:
        """All customers of the truth."""
        return np.sort(self.case.truth["customer"].unique())

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """Recommended items [customers, places], -1 where there is none."""
        table = self.case.recommendations
        shown = np.full((len(self.customers), table["rank"].max()), -1)
        shown[np.searchsorted(self.customers, table["customer"]), table["rank"] - 1] = table["item"]
        return shown

    @cached_property
    def gains(self) -> NDArray[np.float64]:
        """What the hit at each place was bought for, 0 without one."""
        truth = self.case.relevant()
        return np.array(
            [
                [truth[customer].get(item, 0) for item in items]
                for customer, items in zip(self.customers, self.shown, strict=True)
            ],
            dtype=np.float64,
        )

    @cached_property
    def relevant(self) -> NDArray[np.int64]:
        """Number of relevant items [customers]."""
        counts = self.case.truth.groupby("customer").size()[self.customers]
        return np.asarray(counts, dtype=np.int64)

    @cached_property
    def ideal(self) -> NDArray[np.float64]:
        """What the relevant items were bought for, the dearest first, 0 behind the last."""
        ideal = np.zeros((len(self.customers), self.relevant.max()))
        truth = self.case.relevant()
        for row, customer in zip(ideal, self.customers, strict=True):
            row[: len(truth[customer])] = sorted(truth[customer].values(), reverse=True)
        return ideal

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """Customers who bought each item before."""
        bought = np.bincount(self.case.purchases["item"], minlength=len(self.case.items))
        return bought.astype(np.float64)

    @cached_property
    def ours(self) -> dict[str, pd.Series]:
        """Our own metrics: name → customer → value."""
        return our_values(self)

    def length(self, k: int) -> pd.Series:
        """Return the number of items in the first k places of each list."""
        return self.series((self.shown[:, :k] >= 0).sum(axis=1))

    def cold(self, k: int) -> pd.Series:
        """Return how many of those were never bought before."""
        never = np.append(self.popularity == 0, False)
        return self.series(never[self.shown[:, :k]].sum(axis=1))

    def series(self, values: NDArray[np.generic]) -> pd.Series:
        """Return values with their customers."""
        return pd.Series(values, index=self.customers)


def our_values(arrays: Arrays) -> dict[str, pd.Series]:
    """Return our own metrics by name, customer → value."""
    gains, revenue = arrays.gains, arrays.ideal.sum(axis=1)
    values = per_customer(gains > 0, arrays.relevant, KS)
    values |= per_customer_revenue(gains, arrays.ideal, revenue, KS)
    information = beyond_accuracy.self_information(arrays.popularity)
    category = arrays.case.items["category"].to_numpy(np.int32)
    for k in KS:
        top = arrays.shown[:, :k]
        values[f"novelty_at_{k}"] = beyond_accuracy.novelty(top, information)
        values[f"diversity_at_{k}"] = beyond_accuracy.diversity(top, category)
    named = {name: arrays.series(found) for name, found in values.items()}
    for k in KS:
        top = arrays.shown[:, :k]
        recommended = np.bincount(top[top >= 0], minlength=len(category))
        coverage = float(beyond_accuracy.coverage(recommended, len(category)))
        named[f"coverage_at_{k}"] = pd.Series({EVERYBODY: coverage})
    return named


# ------------------------------------------------------------------------------- known differences


@dataclass(frozen=True)
class Difference:
    """How a library's definition differs, and how (ours, theirs) at k are made comparable."""

    reason: str
    undo: Callable[[pd.Series, pd.Series, Arrays, int], Pair]


def _all_relevant(ours: pd.Series, theirs: pd.Series, arrays: Arrays, k: int) -> Pair:
    relevant = arrays.series(arrays.relevant)
    return ours, theirs * relevant / relevant.clip(upper=k)


def _uncut_rank(ours: pd.Series, theirs: pd.Series, arrays: Arrays, k: int) -> Pair:
    return ours, theirs.where(theirs > 1 / (k + 0.5), 0.0)


def _ideal_of_k(ours: pd.Series, theirs: pd.Series, arrays: Arrays, k: int) -> Pair:
    best = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    return ours, theirs * best[-1] / best[arrays.series(arrays.relevant).clip(upper=k) - 1]


def _listed_only(ours: pd.Series, theirs: pd.Series, arrays: Arrays, k: int) -> Pair:
    return ours, theirs * (arrays.length(k) > 0).mean()


def _with_zeros(ours: pd.Series, theirs: pd.Series, arrays: Arrays, k: int) -> Pair:
    return ours, theirs.reindex(ours.index, fill_value=0.0)


def _share_of_customers(ours: pd.Series, theirs: pd.Series, arrays: Arrays, k: int) -> Pair:
    shift = np.log2(arrays.popularity.sum() / arrays.case.purchases["customer"].nunique())
    cold = (arrays.cold(k) / arrays.length(k))[theirs.index]
    return _with_zeros(ours, theirs + shift + cold, arrays, k)


def _mean_of_recommendations(ours: pd.Series, theirs: pd.Series, arrays: Arrays, k: int) -> Pair:
    length, cold = arrays.length(k), arrays.cold(k)
    never = np.log2(arrays.popularity.sum() / 0.5)
    weighted = (ours * length).sum() / length.sum()
    return pd.Series({EVERYBODY: weighted}), theirs + never * cold.sum() / length.sum()


def _of_bought_items(ours: pd.Series, theirs: pd.Series, arrays: Arrays, k: int) -> Pair:
    return ours, theirs * (arrays.popularity > 0).mean()


ALL_RELEVANT = Difference("divides by all relevant items, not by min(k, relevant)", _all_relevant)
LISTED_ONLY = Difference("its mean leaves customers without a list out", _listed_only)
DIFFERENCES: dict[tuple[str, str], Difference] = {
    ("ranx", "map"): ALL_RELEVANT,
    ("pytrec_eval", "map"): ALL_RELEVANT,
    ("rectools", "map"): ALL_RELEVANT,
    ("pytrec_eval", "mrr"): Difference("looks beyond place k", _uncut_rank),
    ("rectools", "ndcg"): Difference(
        "ideal list has k hits, also where fewer items are relevant", _ideal_of_k
    ),
    ("rectools", "novelty"): Difference(
        "share of customers, not of purchases; an item never bought counts 1, not ½; "
        "leaves customers without a list out",
        _share_of_customers,
    ),
    ("rectools", "diversity"): Difference("leaves customers without a list out", _with_zeros),
    ("recommenders", "diversity"): Difference(
        "leaves customers with fewer than two items out", _with_zeros
    ),
    ("recommenders", "precision"): LISTED_ONLY,
    ("recommenders", "recall"): LISTED_ONLY,
    ("recommenders", "map"): LISTED_ONLY,
    ("recommenders", "novelty"): Difference(
        "mean of recommendations, not of customers; an item never bought counts 0 bits",
        _mean_of_recommendations,
    ),
    ("recommenders", "coverage"): Difference(
        "of the items bought before, not of the catalogue", _of_bought_items
    ),
}


# ------------------------------------------------------------------------------- running them


@dataclass(frozen=True)
class Answer:
    """What a library computed (metric → customer → value) with which versions, or why nothing."""

    values: dict[str, pd.Series]
    versions: str
    failure: str = ""


def ask(library: str, folder: Path) -> Answer:
    """Run one library on the case in a folder."""
    worker = [str(Path(__file__).with_name("libraries.py")), library, str(folder)]
    done = subprocess.run([*_python(library), *worker], capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        last = (done.stderr.strip().splitlines() or ["no message"])[-1].strip()
        return Answer({}, library, re.sub(r"https?://\S+", "…", last))
    table = pd.read_csv(folder / f"{library}.csv", float_precision="round_trip")
    values = {
        str(name): rows.set_index("customer")["value"] for name, rows in table.groupby("metric")
    }
    versions = json.loads((folder / f"{library}.json").read_text(encoding="utf-8"))
    beside = ", ".join(f"{name} {versions[name]}" for name in ("python", "numpy", "pandas"))
    return Answer(values, f"{versions['library']} ({beside})")


def _python(library: str) -> list[str]:
    """Return the command that starts a Python in which the library is found."""
    if library not in ISOLATED:
        return [sys.executable]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv") or "uv"
    options = ["--quiet", "--isolated", "--no-project", "--python", "3.11"]
    return [uv, "run", *options, "--with", ISOLATED[library], "python"]


def compare(library: str, metric: str, answer: Answer, arrays: Arrays) -> tuple[float, float]:
    """Return the largest absolute difference over every k: as it comes, and made comparable."""
    ours = arrays.ours
    raw, comparable = [], []
    for k in KS:
        name = f"{metric}_at_{k}"
        if name not in answer.values:
            continue
        pair = (ours[name], answer.values[name])
        raw.append(_largest(*pair))
        known = DIFFERENCES.get((library, metric))
        comparable.append(_largest(*(known.undo(*pair, arrays, k) if known else pair)))
    return max(raw), max(comparable)


def _largest(ours: pd.Series, theirs: pd.Series) -> float:
    """Return the largest difference of the customers they answer for, or of the means."""
    if EVERYBODY in theirs.index and EVERYBODY not in ours.index:
        ours = pd.Series({EVERYBODY: ours.mean()})
    difference = (theirs - ours.reindex(theirs.index)).abs()
    if difference.isna().any():
        raise ValueError(f"{difference.isna().sum()} differences are no numbers")
    return float(difference.max())


# ------------------------------------------------------------------------------- the table


def rows(answers: dict[str, Answer], arrays: Arrays) -> Iterator[str]:
    """Yield the table's lines, a metric and library each."""
    yield (
        "| metric | library | compared | as it comes | made comparable "
        "| our mean at 10 | its mean at 10 | difference |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    metrics = list(dict.fromkeys(name.rsplit("_at_", 1)[0] for name in arrays.ours))
    for metric in metrics:
        for library, answer in answers.items():
            found = answer.values.get(f"{metric}_at_10")
            if found is None:
                continue
            kind = "customers" if EVERYBODY not in found.index else "all together"
            raw, comparable = compare(library, metric, answer, arrays)
            known = DIFFERENCES.get((library, metric))
            ours = arrays.ours[f"{metric}_at_10"].mean()
            yield (
                f"| {metric} | {library} | {kind} | {_number(raw)} | {_number(comparable)} "
                f"| {ours:.4f} | {found.mean():.4f} | {known.reason if known else ''} |"
            )
    for library, answer in answers.items():
        if answer.failure:
            yield f"| all | {library} | | | | | | not run: {answer.failure} |"


def _number(value: float) -> str:
    """Return 0 as such and all else with two digits."""
    return f"{value:.1e}" if value else "0"


def main() -> None:
    """Draw, ask every library, and write the table."""
    parser = command.parser("parity", __doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--customers", type=int, default=500)
    parser.add_argument("--items", type=int, default=200)
    options = parser.parse_args()
    arrays = Arrays(draw_case(options.seed, options.customers, options.items))
    answers = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays.case.write(folder)
        for number, library in enumerate(LIBRARIES, start=1):
            started = time.monotonic()
            print(f"{number} of {len(LIBRARIES)}: {library} …", file=sys.stderr, flush=True)
            answers[library] = ask(library, folder)
            print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(
        f"{options.customers} customers, {options.items} items, seed {options.seed}; "
        f"k = {', '.join(map(str, KS))}.\n"
    )
    print("\n".join(rows(answers, arrays)))
    print("\n" + "\n".join(f"- {answer.versions}" for answer in answers.values()))


if __name__ == "__main__":
    main()
