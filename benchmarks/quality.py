"""Judge the ALS of this project beside MLlib's and implicit's: the same data, search and judge.

Every library searches a small grid (two lengths of the vectors, five settings of its own
regularisation and confidence) on the validation window; its best setting is fitted again on all
that lies before the test window and judged there. All fit the same matrix: on how many days each
customer bought each item. Their factors go through this project's own ranking and metrics: full
ranking, bought items excluded (*discover*), no trend prior. A customer that a library left out
gets the popular items. Ours is judged once more as it ships, with its defaults.

  python -m benchmarks.quality --dataset out/dataset --output out/bench
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from implicit.als import AlternatingLeastSquares
from pyspark.sql import DataFrame, SparkSession
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks import command
from benchmarks.contenders.mllib import implicit_als
from recsys.comparison import Difference, paired_differences, paired_rows
from recsys.data.dataset import Dataset, Fold, History, load_dataset
from recsys.errors import RecsysError
from recsys.evaluation import Evaluation, evaluate
from recsys.metrics.intervals import Interval
from recsys.models import arrays
from recsys.models.als import CUSTOMERS, ITEMS, Als, AlsParameters
from recsys.models.base import Floats
from recsys.progress import say
from recsys.scoring import plan_scoring
from recsys.session import spark_session

QUESTION, METRIC = "discover", "ndcg_at_10"
FACTORS = (64, 96)
ITERATIONS, SEED = 15, 7


@dataclass(frozen=True)
class Setting:
    """What is searched; regularisation and confidence are scaled as the library scales them."""

    factors: int
    regularization: float
    alpha: float


Fit = Callable[[SparkSession, History, Setting, Path], None]


@dataclass(frozen=True)
class Library:
    """One library's ALS.

    Attributes:
        fit: fits a history and leaves both sides' factors in a folder.
        grid: (regularisation, alpha) to try.
    """

    fit: Fit
    grid: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Found:
    """How a library did.

    Attributes:
        name: of the library.
        setting: chosen on validation; None for the shipped defaults.
        validation: metric of every setting on the validation window, best first.
        test: metric on the test window.
        difference: this project's tuned ALS minus the library's, paired by customer.
    """

    name: str
    setting: Setting | None
    validation: list[tuple[Setting, float]]
    test: Interval
    difference: Difference | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, refit, judge, compare, write."""
    options = _parser().parse_args(arguments)
    try:
        dataset = load_dataset(options.dataset)
    except RecsysError as error:
        raise SystemExit(f"error: {error}") from None
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    spark = spark_session("quality")
    with tempfile.TemporaryDirectory(prefix="recsys-quality-") as scratch:
        results = compare(spark, dataset, LIBRARIES, Path(scratch))
    spark.stop()
    text = "\n".join(markdown(dataset, results)) + "\n"
    (output / "quality.md").write_text(text, "utf-8")
    described = {"dataset": dataset.digest, "metric": METRIC, "question": QUESTION}
    found = described | {"results": [asdict(result) for result in results]}
    (output / "quality.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    say(text)


def compare(
    spark: SparkSession, dataset: Dataset, libraries: dict[str, Library], folder: Path
) -> list[Found]:
    """Search every library's grid, judge its best on test; the first library is ours.

    Args:
        spark: the session.
        dataset: what all are fitted on.
        libraries: name → library.
        folder: for factors and hit tables.
    """
    results: list[Found] = []
    tables: list[pa.Table] = []
    for name, library in libraries.items():
        tried = []
        for factors, (regularization, alpha) in product(FACTORS, library.grid):
            setting = Setting(factors, regularization, alpha)
            judged = judge(spark, dataset.validation, library.fit, setting, folder)
            tried.append((setting, judged.estimates[QUESTION][METRIC].value))
            say(f"  {name}: {setting}: {tried[-1][1]:.4f} on validation")
        tried.sort(key=lambda pair: -pair[1])
        best = tried[0][0]
        judged = judge(spark, dataset.test, library.fit, best, folder)
        tables.append(pq.read_table(judged.table))
        results.append(_found(name, best, tried, judged, tables))
    judged = judge(spark, dataset.test, None, None, folder)
    tables.append(pq.read_table(judged.table))
    results.append(_found("ours, as shipped", None, [], judged, tables))
    return results


def _found(
    name: str,
    setting: Setting | None,
    tried: list[tuple[Setting, float]],
    judged: Evaluation,
    tables: Sequence[pa.Table],
) -> Found:
    """Compare the last hit table with the first, which is ours."""
    difference = None
    if len(tables) > 1:
        rows = paired_rows(tables[-1], tables[0], QUESTION)
        difference = paired_differences(*rows, [METRIC])[METRIC]
    return Found(name, setting, tried, judged.estimates[QUESTION][METRIC], difference)


def judge(
    spark: SparkSession, fold: Fold, fit: Fit | None, setting: Setting | None, folder: Path
) -> Evaluation:
    """Fit on a fold's history and judge on its window.

    Args:
        spark: the session.
        fold: history and truth.
        fit: of the library; None for ours as it ships.
        setting: of the fit; None for ours as it ships.
        folder: for factors and hit tables.
    """
    work = Path(tempfile.mkdtemp(dir=folder))
    fitted = work / "fitted"
    fitted.mkdir()
    if fit is None or setting is None:
        parameters = AlsParameters()
        Als(parameters).fit(spark, fold.history, fitted)
    else:
        parameters = _parameters(setting)
        fit(spark, fold.history, setting, fitted)
    customers = fold.history.customers
    plan = plan_scoring(
        spark, Als.name, parameters, fitted, customers, fold.history, work / "terms"
    )
    return evaluate(spark, plan, fold, work / "hits")


def _parameters(setting: Setting) -> AlsParameters:
    """Return ours without a trend prior and without a half-life, as the peers are."""
    return AlsParameters(
        **asdict(setting), iterations=ITERATIONS, seed=SEED, trend_power=0, half_life_days=None
    )


# --------------------------------------------------------------------------------- the libraries


def fit_ours(spark: SparkSession, history: History, setting: Setting, folder: Path) -> None:
    """Fit ours."""
    Als(_parameters(setting)).fit(spark, history, folder)


def fit_implicit(spark: SparkSession, history: History, setting: Setting, folder: Path) -> None:
    """Fit implicit's ALS in this process."""
    # Its own threads fill the cores.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            **asdict(setting),
            iterations=ITERATIONS,
            random_state=SEED,
            use_gpu=False,
            num_threads=os.cpu_count() or 1,
        )
        model.fit(purchase_days(history), show_progress=False)
    arrays.write(folder, CUSTOMERS, model.user_factors)
    arrays.write(folder, ITEMS, model.item_factors)


def fit_mllib(spark: SparkSession, history: History, setting: Setting, folder: Path) -> None:
    """Fit MLlib's ALS; rows that it leaves out get zeros."""
    days = purchase_days(history).tocoo()
    table = pa.table({"customer": days.row, "item": days.col, "count": days.data})
    pq.write_table(table, folder / "days.parquet")
    model = implicit_als(
        setting.factors, ITERATIONS, SEED, setting.regularization, setting.alpha
    ).fit(spark.read.parquet(str(folder / "days.parquet")))
    sides = (
        (CUSTOMERS, model.userFactors, history.customers),
        (ITEMS, model.itemFactors, history.items),
    )
    for name, frame, rows in sides:
        arrays.write(folder, name, _factors(frame, rows, setting.factors))


def _factors(frame: DataFrame, rows: int, length: int) -> Floats:
    """Return rows (id, features) as float32 [rows, length]."""
    found = frame.toArrow()
    factors = np.zeros((rows, length), dtype=np.float32)
    values = found["features"].combine_chunks().flatten().to_numpy()
    factors[found["id"].to_numpy()] = values.reshape(-1, length)
    return factors


def purchase_days(history: History) -> sp.csr_matrix:
    """Count on how many days each customer bought each item: float32 CSR [customers, items]."""
    blocks = history.customer_blocks
    parts = []
    for number in blocks.covering(history.customers):
        block = blocks.read(number).take(history.customers).before(history.before)
        ones = np.ones(len(block.days), dtype=np.float32)
        parts.append(block.matrix(ones, history.items))
    return sp.vstack(parts, format="csr")


# Ours and implicit scale alike. MLlib multiplies regularisation by how much a customer bought,
# and adds 1 to the confidence.
ALIKE = ((3.0, 4.0), (30.0, 4.0), (100.0, 4.0), (10.0, 1.0), (30.0, 15.0))
LIBRARIES = {
    "ours": Library(fit_ours, ALIKE),
    "implicit": Library(fit_implicit, ALIKE),
    "mllib": Library(fit_mllib, ((0.1, 4.0), (0.3, 4.0), (1.0, 4.0), (0.3, 1.0), (0.3, 15.0))),
}


# ------------------------------------------------------------------------------------- the table


def markdown(dataset: Dataset, results: Sequence[Found]) -> Iterator[str]:
    """Yield the report's lines."""
    history = dataset.test.history
    yield (
        f"# {METRIC} of {QUESTION}, test window, {history.customers:,} customers × "
        f"{history.items:,} items (dataset {dataset.digest[:12]})\n"
    )
    yield (
        "| | chosen on validation | validation | test (95 % interval) "
        "| ours − theirs (95 % interval) | better, alike, worse customers |"
    )
    yield "|---|---|---|---|---|---|"
    for result in results:
        yield f"| {' | '.join(_cells(result))} |"
    judged = next(result.difference.customers for result in results if result.difference)
    yield (
        f"\n{judged:,} customers judged; {ITERATIONS} iterations; settings tried on validation: "
        f"{len(results[0].validation)} a library."
    )


def _cells(result: Found) -> Iterator[str]:
    """Yield one line's cells."""
    yield result.name
    if result.setting is None:
        yield from ("its defaults, with trend prior and half-life", "")
    else:
        yield ", ".join(f"{name} {value:g}" for name, value in asdict(result.setting).items())
        yield f"{result.validation[0][1]:.4f}"
    yield f"{result.test.value:.4f} ({result.test.low:.4f} … {result.test.high:.4f})"
    if result.difference is None:
        yield from ("", "")
        return
    gain = result.difference.interval
    yield f"{gain.value:+.4f} ({gain.low:+.4f} … {gain.high:+.4f})"
    yield f"{result.difference.wins}, {result.difference.ties}, {result.difference.losses}"


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("quality", __doc__)
    parser.add_argument("--dataset", required=True, help="folder that `prepare` wrote")
    parser.add_argument("--output", default="out/bench", help="folder; default: out/bench")
    return parser


if __name__ == "__main__":
    main()
