"""Measure how often the policy promotes by chance, and how often it finds a better challenger.

Two real runs on one dataset are compared again and again. For a null challenger, each customer's
two lists are handed to champion and challenger at random: neither side is better, in any metric.
For a planted one, the challenger gets the better list of the two a little more often, so that its
true gain is the one which the plan says is found with the given power.

  python -m benchmarks.null_challengers --dataset retail/dataset
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import stats

from benchmarks import command
from recsys import comparison, hit_table
from recsys.comparison import Difference
from recsys.data.dataset import Dataset, load_dataset
from recsys.hit_table import QUESTIONS
from recsys.progress import say
from recsys.segments import Segment, segments
from registry.evidence import Entrant, HitTables, entrants
from registry.policy import ERROR_RATE, Pairing, Policy, decide
from registry.rulebook import read_policy

METRIC = "ndcg_at_10"
GUARDED = [METRIC, "novelty_at_10", "revenue_recall_at_10"]
FLIPS = 100_000
RATES = (0.025, 0.005)
Rows = dict[str, tuple[pa.Table, pa.Table]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw challengers, judge them, print the shares that were promoted."""
    options = _parser().parse_args(arguments)
    dataset, policy = load_dataset(options.dataset), read_policy("policy.yaml")
    champion, challenger = _runs(dataset)
    tables = HitTables()
    rows: Rows = {
        question: comparison.paired_rows(
            tables.of(champion, "test"), tables.of(challenger, "test"), question
        )
        for question in QUESTIONS
    }
    groups = segments(rows["discover"][0], dataset.folder)
    random = np.random.default_rng(options.seed)
    open_policy = Policy(
        minimal_effect=0,
        beat_popularity=False,
        same_sign_in_every_window=False,
        guardrails={},
        segment_margin=1,
        smallest_segment=10**9,
    )
    say(
        f"{champion.name} and {challenger.name}, {len(rows['discover'][0]):,} customers; "
        f"nominal rate {ERROR_RATE:.1%}"
    )
    draw = _Draw(champion, challenger, rows, groups, dataset.test.history.items, random)
    for rate, share in draw.calibration().items():
        say(f"p-value of the gain below {rate}: {share:.2%} of {FLIPS:,} null challengers")
    null = [draw.pairing(0.0) for _ in _counted(options.challengers, "null challengers")]
    for name, judged in (("the gain alone", open_policy), ("the whole policy", policy)):
        alone = [decide(champion, [p], judged).winner is challenger for p in null]
        together = [
            decide(champion, null[i : i + options.family], judged).winner is challenger
            for i in range(0, len(null), options.family)
        ]
        say(f"{name}, null challengers one by one: {_share(alone)} promoted")
        say(f"{name}, in families of {options.family}: {_share(together)} with a promotion")
    for name, judged in (("the gain alone", open_policy), ("the whole policy", policy)):
        more = draw.lead(options.power, judged.minimal_effect)
        found = [
            decide(champion, [draw.pairing(more)], judged).winner is challenger
            for _ in _counted(options.planted, "planted challengers")
        ]
        say(f"{name}, planted challengers (planned power {options.power:.0%}): {_share(found)}")


class _Draw:
    """Makes challengers from two runs."""

    def __init__(
        self,
        champion: Entrant,
        challenger: Entrant,
        rows: Rows,
        groups: Sequence[Segment],
        items: int,
        random: np.random.Generator,
    ) -> None:
        self.champion, self.challenger, self.rows = champion, challenger, rows
        self.groups, self.items, self.random = groups, items, random
        left, right = (hit_table.values(r, [METRIC])[:, 0] for r in rows["discover"])
        self.gain: NDArray[np.float64] = right - left

    def calibration(self) -> dict[float, float]:
        """Return how often the p-value of a null challenger is below some rates.

        A null challenger's difference has a random sign at every customer, so many can be drawn
        without making their tables.
        """
        below = dict.fromkeys(RATES, 0)
        for _ in range(FLIPS // 1000):
            signs = self.random.choice([-1.0, 1.0], size=(1000, len(self.gain)))
            found = stats.ttest_1samp(signs * self.gain, 0, axis=1, alternative="greater")
            for rate in below:
                below[rate] += int((found.pvalue < rate).sum())
        return {rate: count / FLIPS for rate, count in below.items()}

    def lead(self, power: float, minimal_effect: float) -> float:
        """Return how much more often the better list must be given to be found with a power.

        The share s of customers for whom the choice is not by chance makes the mean gain
        s · mean |d|; it is found with the power where it lies (z_α + z_power) standard errors
        above the minimal effect. The error is that of a random choice, sqrt(mean d² / n).
        """
        champion = float(
            np.mean([hit_table.values(r, [METRIC]).mean() for r in self.rows["discover"]])
        )
        error = float(np.sqrt((self.gain**2).mean() / len(self.gain)))
        needed = stats.norm.isf(ERROR_RATE) + stats.norm.ppf(power)
        total = float(needed) * error + minimal_effect * champion
        return total / float(np.abs(self.gain).mean())

    def pairing(self, lead: float) -> Pairing:
        """Hand each customer's two lists to the two sides."""
        swap = self.random.random(len(self.gain)) < 0.5
        sure = self.random.random(len(self.gain)) < lead
        swap = np.where(sure, self.gain < 0, swap)
        swapped = dict(zip(self._customers("discover"), swap, strict=True))
        metrics: dict[str, Difference] = {}
        discover = None
        for question, (left, right) in self.rows.items():
            turned = np.array(
                [
                    swapped.get(name, self.random.random() < 0.5)
                    for name in self._customers(question)
                ]
            )
            before, after = _exchange(left, right, turned)
            found = comparison.paired_differences(before, after, GUARDED)
            if question == "discover":
                discover = (before, after)
                found |= comparison.catalogue_differences(before, after, self.items)
            metrics |= {hit_table.metric_name(question, n): d for n, d in found.items()}
        assert discover is not None
        return Pairing(
            self.champion,
            self.challenger,
            "discover",
            METRIC,
            metrics,
            comparison.segment_differences(*discover, self.groups, METRIC),
            {},
            None,
        )

    def _customers(self, question: str) -> list[str]:
        return list(self.rows[question][0]["customer_id"].to_pylist())


def _exchange(
    left: pa.Table, right: pa.Table, turned: NDArray[np.bool_]
) -> tuple[pa.Table, pa.Table]:
    """Give the customers that are turned the other side's row."""
    both = pa.concat_tables([left, right.select(left.column_names)]).combine_chunks()
    place = np.arange(len(left))
    other = place + len(left)
    return (
        both.take(pa.array(np.where(turned, other, place))),
        both.take(pa.array(np.where(turned, place, other))),
    )


def _runs(dataset: Dataset) -> tuple[Entrant, Entrant]:
    """Return the newest popularity run and the newest ALS run."""
    found = {e.algorithm: e for e in entrants(dataset.digest)}
    return found["popularity"], found["als"]


def _counted(count: int, what: str) -> Iterator[int]:
    for number in range(count):
        if number % 100 == 0:
            say(f"  {number:,} of {count:,} {what}")
        yield number


def _share(outcomes: Sequence[bool]) -> str:
    """Write a share with its 95 % interval (Wilson)."""
    result = stats.binomtest(sum(outcomes), len(outcomes)).proportion_ci(method="wilson")
    return (
        f"{sum(outcomes)} of {len(outcomes):,} = {np.mean(outcomes):.1%} "
        f"({result.low:.1%} … {result.high:.1%})"
    )


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("null_challengers", __doc__)
    parser.add_argument("--dataset", type=Path, required=True, help="with a popularity and ALS run")
    for name, value in (("challengers", 1000), ("family", 5), ("planted", 300), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--power", type=float, default=0.8, help="default: 0.8")
    return parser


if __name__ == "__main__":
    main()
