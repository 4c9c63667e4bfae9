"""The notebook compares real runs in a real kernel, tells the policy's decision, writes nothing."""

import re
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nbformat import NotebookNode
from pyspark.sql import SparkSession

from experiments.train import run_train
from recsys.data.dataset import Dataset
from recsys.data.prepare import Split, prepare
from recsys.data.tables import read_tables
from recsys.models import ALGORITHMS
from registry.compare import CompareConfig, find_champion
from registry.evidence import Entrant, HitTables, entrants
from registry.pairing import pair_all
from registry.policy import Decision, decide, show
from registry.rulebook import read_policy
from tests.notebooks.kernel import (
    HTML,
    MARKDOWN,
    NOTEBOOKS,
    PNG,
    cells,
    execute,
    own_store,
    read_notebook,
    shown,
)
from tests.recsys.builders import WINDOW_DAYS, retailer, write_interactions

NOTEBOOK = "compare_runs.ipynb"
TRAINED = ("popularity", "item_item")


@dataclass(frozen=True)
class Executed:
    """The notebook after it has run, the decision it should tell, and the store's content."""

    notebook: NotebookNode
    runs: list[Entrant]
    decision: Decision
    before: list[str]
    after: list[str]

    def shown(self, cell: str, kind: str) -> list[str]:
        """Return what a cell shows, of one media type."""
        return shown(self.notebook, cell, kind)


@pytest.fixture(scope="module")
def dataset(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The small retailer with descriptions of its items."""
    folder = tmp_path_factory.mktemp("notebook")
    lines = retailer()
    write_interactions(folder / "interactions", lines)
    ids = sorted({line.item for line in lines})
    (folder / "items").mkdir()
    items = {
        "item_id": ids,
        "description": [f"Thing {i}" for i in ids],
        "category": pa.nulls(len(ids), pa.string()),
    }
    pq.write_table(pa.table(items), folder / "items" / "part-0.parquet")
    split = Split(test_days=WINDOW_DAYS, validation_days=WINDOW_DAYS)
    return prepare(spark, read_tables(spark, folder), folder / "dataset", split)


@pytest.fixture(scope="module")
def executed(
    spark: SparkSession, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Executed:
    """Two runs in a store of their own, and the notebook executed on them."""
    place = tmp_path_factory.mktemp("executed")
    with own_store(place, RECSYS_DATASET=str(dataset.path)):
        for name in TRAINED:
            run_train(name, str(dataset.path), ALGORITHMS[name].parameters_class(), spark)
        runs, before = entrants(dataset.digest), content(place)
        notebook = read_notebook(NOTEBOOK)
        execute(notebook)
        return Executed(notebook, runs, decided(runs, dataset), before, content(place))


def decided(runs: list[Entrant], dataset: Dataset) -> Decision:
    """Decide as `compare` does."""
    config = CompareConfig(dataset=str(dataset.path))
    champion = find_champion(runs, config)
    ranked = sorted(runs, key=lambda run: run.metrics["validation/ndcg_at_10"], reverse=True)
    pairings = pair_all(champion, ranked, dataset, config.metric, [], HitTables())
    return decide(champion, pairings, read_policy(config.policy))


def content(place: Path) -> list[str]:
    """Return all that an MLflow store holds: its database and the names of its artifacts."""
    connection = sqlite3.connect(place / "mlflow.db")
    try:
        rows = list(connection.iterdump())
    finally:
        connection.close()
    return rows + sorted(str(file) for file in (place / "artifacts").rglob("*"))


def test_no_cell_fails_warns_or_prints_an_error(executed: Executed) -> None:
    kinds = {o.output_type for cell in executed.notebook.cells for o in cell.get("outputs", ())}
    assert kinds == {"execute_result", "display_data"}


def test_every_run_stands_in_the_table_the_best_first(executed: Executed) -> None:
    [counted] = executed.shown("load", MARKDOWN)
    assert counted.startswith("**2 runs**")
    [table] = executed.shown("runs", HTML)
    ranked = sorted(executed.runs, key=lambda run: run.metrics["test/ndcg_at_10"], reverse=True)
    shown = [f"{run.metrics['test/ndcg_at_10']:.4f} (" for run in ranked]
    assert [table.index(text) for text in shown] == sorted(table.index(text) for text in shown)
    assert table.count("<tr") == 1 + len(ranked)
    for column in ("replenish ndcg@10", "coverage@10", "neighbours", "half_life_days"):
        assert f"<th>{column}</th>" in table
    assert "<th>dataset</th>" not in table


def test_the_links_lead_to_the_view_and_the_comparison(executed: Executed) -> None:
    [links] = executed.shown("links", MARKDOWN)
    assert "viewStateShareKey=recommenders" in links
    assert all(run.run_id in links.split("compare-runs?")[1] for run in executed.runs)


@pytest.mark.parametrize("cell", ["plot-runs", "plot-customers", "plot-segments"])
def test_each_plot_is_an_image(executed: Executed, cell: str) -> None:
    [image] = executed.shown(cell, PNG)
    assert len(image) > 10_000


def test_the_customers_are_compared_one_by_one(executed: Executed) -> None:
    assert executed.decision.shown is not None
    found = executed.decision.shown.pairing.deciding
    [text] = executed.shown("opponents", MARKDOWN)
    assert text.startswith("**item_item** against **popularity**")
    assert show(found) in text
    assert (
        f"Better for {found.wins:,}, alike for {found.ties:,}, worse for {found.losses:,}" in text
    )


def test_the_groups_hold_all_customers(executed: Executed) -> None:
    assert executed.decision.shown is not None
    [table] = executed.shown("segments", HTML)
    for group in executed.decision.shown.pairing.segments:
        assert f"<td>activity: {group.label}</td>" in table
        assert show(group.difference) in table


def test_the_decision_is_that_of_the_policy(executed: Executed) -> None:
    assert executed.shown("decision", MARKDOWN) == [executed.decision.sentence]
    [table] = executed.shown("gates", HTML)
    [verdict] = executed.decision.verdicts
    deciding = [gate.passed for gate in verdict.gates if "too few to decide" not in gate.reason]
    marks = [table.count(f"<td>{mark}</td>") for mark in "✓✗–"]
    assert marks == [sum(deciding), deciding.count(False), len(verdict.gates) - len(deciding)]
    assert all(gate.reason in table for gate in verdict.gates)


def test_one_customer_is_shown_with_descriptions(executed: Executed) -> None:
    [text] = executed.shown("customer", MARKDOWN)
    assert re.match(r"Customer \*\*\d\d\*\* \((new|occasional|regular|heavy), \d+ items", text)
    [table] = executed.shown("customer", HTML)
    assert table.count("Thing 0") > 20
    assert "champion: popularity" in table
    assert "challenger: item_item" in table


def test_nothing_is_written_to_mlflow(executed: Executed) -> None:
    assert executed.after == executed.before


def test_without_dataset_or_runs_it_says_what_to_do(
    dataset: Dataset, mlflow_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = {name: cell.source for name, cell in cells(read_notebook(NOTEBOOK)).items()}
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("RECSYS_DATASET", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere: run `make demo` first"):
        exec(code["set-up"], {})
    monkeypatch.setenv("RECSYS_DATASET", str(dataset.path))
    with pytest.raises(LookupError, match="0 finished runs on this dataset: run `make demo` first"):
        exec("\n".join(code[name] for name in ("set-up", "imports", "load")), {})
