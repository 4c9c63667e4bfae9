"""What the dossier promises to its reader, section by section."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data.dataset import Dataset
from recsys.hit_table import QUESTIONS, K, metric_name
from recsys.metrics.ranking import METRICS
from registry.dossier.glossary import TERMS, gate_title, term
from registry.dossier.page import render
from registry.dossier.scale import scale
from registry.evidence import Entrant, HitTables
from registry.pairing import pair_all
from registry.policy import Decision, Policy, decide, show
from tests.recsys.builders import fold_of, history_of
from tests.recsys.hit_rows import hit_table

CUSTOMERS, ITEMS, DAY = 60, 40, 20_000
EVIL = "<script>alert('1')</script> \"quoted\" & co"
POLICY = Policy(
    minimal_effect=0.01,
    beat_popularity=True,
    same_sign_in_every_window=True,
    guardrails={"coverage_at_10": 0.1, "other_question": 0.05},
    segment_margin=0.25,
    smallest_segment=16,
)
SPEED = {
    "train/model_bytes": 2_500_000.0,
    "train/fit_seconds": 12.34,
    "test/items_per_second": 45_678.0,
}


def entrant(name: str, validation: float) -> Entrant:
    metrics = dict.fromkeys(
        ("validation/ndcg_at_10", "validation/replenish/recall_at_10"), validation
    )
    metrics |= {"test/ndcg_at_10": 0.25}
    metrics |= {"test/ndcg_at_10_low": 0.2, "test/ndcg_at_10_high": 0.3}
    return Entrant(
        f"run-{name}", name, name, f"model-{name}", f"models:/{name}", 1_700_000_000_000, "1",
        "recipe", "c0de", metrics, {"algorithm": name, "dataset_digest": "same"},
    )  # fmt: skip


POPULARITY, ALS = entrant("popularity", 0.1), entrant("als", 0.3)
SLOW = entrant("item_item", 0.2)


class Tables(HitTables):
    """Hit tables made by hand."""

    def __init__(self, tables: Mapping[str, pa.Table]) -> None:
        self.tables = tables

    def of(self, entrant: Entrant, window: str) -> pa.Table:
        return self.tables[entrant.run_id]


def item(index: int) -> str:
    return f"i{index % ITEMS:03d}"


def rows_of(question: str, start: int, seed: int) -> pa.Table:
    """Customer c buys items c to c+4; the list starts `start` behind c, for every third at random.

    The nearer to 0 the start, the better the list.
    """
    random = np.random.default_rng(seed)
    rows = {}
    for customer in range(CUSTOMERS):
        first = customer + (start if customer % 3 else int(random.integers(0, 8)))
        bought = [item(customer + n) for n in range(5)]
        shown = [item(first + n) for n in range(K)]
        hits = np.array([[i in bought for i in shown]])
        # One more was bought that nobody knew.
        found = {f"{n}_at_{K}": m(hits, np.array([6]), K)[0] for n, m in METRICS.items()}
        more = {f"{n}_at_{K}": random.random() for n in ("novelty", "popular_share")}
        rows[f"c{customer:03d}"] = found | more | {
            "bought": bought, "recommended": shown, "relevant": 6, "history": 1 + customer // 4,
        }  # fmt: skip
    return hit_table(rows, question)


def run_table(start: int, seed: int) -> pa.Table:
    return pa.concat_tables([rows_of(question, start, seed) for question in QUESTIONS])


TABLES = Tables(
    {
        "run-popularity": run_table(5, 1),
        "run-als": run_table(1, 2),
        "run-item_item": run_table(4, 3),
    }
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sixty customers, forty items; item 3 has an evil description and item 4 none."""
    folder = tmp_path_factory.mktemp("dataset")
    events = [
        (customer, (customer + n) % ITEMS, DAY - 30 + n)
        for customer in range(CUSTOMERS)
        for n in range(1 + customer // 4)
    ]
    history = history_of(folder, events, CUSTOMERS, ITEMS, DAY)
    ids, descriptions = [item(n) for n in range(ITEMS)], [f"Thing {n}" for n in range(ITEMS)]
    table = {"item_id": ids, "description": [*descriptions[:3], EVIL, None, *descriptions[5:]]}
    pq.write_table(pa.table(table), folder / "items" / "part-0.parquet")
    names = ("validation", "test_2", "test")
    facts = {"first_day": DAY - 100, "end_day": DAY + 14, "test_rows": 1234}
    facts |= {f"{name}_cut_day": DAY - 28 + 14 * n for n, name in enumerate(names)}
    fold = fold_of(folder, history, [])
    earlier = (dataclasses.replace(fold, name="test_2"),)
    return Dataset(folder, folder, "d1gest" * 8, facts, fold, fold, earlier)


def decided(dataset: Dataset, *runs: Entrant, metric: str = "ndcg_at_10") -> Decision:
    """Decide about runs, the first of which is the champion."""
    return decide(runs[0], pair_all(runs[0], runs, dataset, metric, [], TABLES), POLICY)


@pytest.fixture(scope="module")
def passed(dataset: Dataset) -> Decision:
    return decided(dataset, POPULARITY, ALS, SLOW)


class Page(HTMLParser):
    """Collects tags, texts by section, and the cells of each table row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.section, self.in_cell = "", False
        self.texts: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("section", "header"):
            self.section = dict(attrs)["id"] or ""
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.texts[self.section] = self.texts.get(self.section, "") + data
        if self.in_cell:
            self.rows[self.section][-1][-1] += data

    def text(self, section: str) -> str:
        return " ".join(self.texts[section].split())

    def cells(self, section: str) -> Iterator[list[str]]:
        return ([" ".join(cell.split()) for cell in row] for row in self.rows[section])


@pytest.fixture(scope="module")
def html(passed: Decision, dataset: Dataset) -> str:
    return render(passed, POLICY, dataset, TABLES)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_verdict_stands_first(page: Page, passed: Decision) -> None:
    assert passed.winner is ALS
    assert "✓ Passed" in page.text("verdict")
    assert passed.sentence in page.text("verdict")
    assert list(page.texts).index("verdict") < list(page.texts).index("meaning")


def test_every_gate_is_ticked_with_its_reason(page: Page, passed: Decision) -> None:
    assert passed.shown
    few = [gate for gate in passed.shown.gates if "too few to decide" in gate.reason]
    for gate in passed.shown.gates:
        title = "" if gate in few else f"{gate_title(gate.name)} "
        assert f"{title}{gate.reason}" in page.text("meaning")
    assert "✗" not in page.text("meaning")
    assert page.text("meaning").count("✓ passed") == len(passed.shown.gates) - len(few)
    segments = [s.difference.customers for s in passed.shown.pairing.segments]
    assert len(few) == sum(customers < POLICY.smallest_segment for customers in segments) > 0


def test_refusals_stand_before_what_passed(dataset: Dataset) -> None:
    decision = decided(dataset, ALS, POPULARITY)
    page = Page(render(decision, POLICY, dataset, TABLES))
    assert decision.shown
    assert "✗ Refused: the champion stays" in page.text("verdict")
    meaning = page.text("meaning")
    assert all(reason in meaning for reason in decision.shown.refusals)
    assert meaning.rindex("✗ refused") < meaning.index("✓ passed")
    assert f"{len(decision.shown.refusals)} of the policy’s" in meaning


def test_every_metric_is_shown_with_its_numbers(page: Page, passed: Decision) -> None:
    assert passed.shown
    rows = list(page.cells("metrics"))
    for question in QUESTIONS:
        for name in (*METRICS, "novelty", "popular_share", "coverage", "gini"):
            found = passed.shown.pairing.metrics[metric_name(question, f"{name}_at_10")]
            numbers = [f"{found.champion:.4f}", f"{found.challenger:.4f}", show(found)]
            matching = [row for row in rows if row[1:4] == numbers]
            assert any(row[0].startswith(term(f"{name}_at_10").name) for row in matching), name
    decides = next(row for row in rows if "decides" in row[0])
    assert decides[0].startswith("ndcg@10")
    assert decides[4] == "▲ better"
    found = passed.shown.pairing.deciding
    assert decides[5] == f"{found.wins} better · {found.ties} alike · {found.losses} worse"
    for name in ("gini", "popular_share"):
        outcomes = {row[4] for row in rows if row[0].startswith(TERMS[name].name)}
        assert not any("worse" in o or "better" in o for o in outcomes)


def test_groups_windows_and_challengers_are_compared(page: Page, passed: Decision) -> None:
    rows = {row[0]: row for row in page.cells("groups")}
    assert passed.shown
    for segment in passed.shown.pairing.segments:
        small = segment.difference.customers < POLICY.smallest_segment
        row = rows[segment.label + ("shown, does not decide" if small else "")]
        assert row[1] == str(segment.difference.customers)
        assert row[3] == show(segment.difference)
    assert rows["test_2"][3] == show(passed.shown.pairing.windows["test_2"])
    assert rows["als shown here"][3] == "✓ passed"
    slow = passed.verdicts[1]
    assert rows["item_item"][1:3] == [show(slow.pairing.deciding), f"{slow.adjusted_p:.3g}"]


def test_the_largest_losses_are_named(page: Page) -> None:
    left, right = (rows_of("discover", start, seed).to_pylist() for start, seed in ((5, 1), (1, 2)))
    gained = [b["ndcg_at_10"] - a["ndcg_at_10"] for a, b in zip(left, right, strict=True)]
    order = [n for n in np.argsort(gained, kind="stable") if gained[n] < 0][:10]
    rows = [row for row in page.cells("losers") if row[0].startswith("c0")]
    assert order
    assert [row[0] for row in rows] == [left[n]["customer_id"] for n in order]
    first = order[0]
    assert rows[0][3:5] == [f"{r[first]['ndcg_at_10']:.4f}" for r in (left, right)]
    assert "and 1 more" in rows[0][5]
    assert "✓" in rows[0][5]


def test_the_shelf_is_counted(page: Page) -> None:
    assert "Of 40 items" in page.text("shelf")
    rows = list(page.cells("shelf"))[1:]
    assert len(rows) == 10
    for column in (2, 3, 4):
        assert sum(float(row[column].removesuffix(" %")) for row in rows) == pytest.approx(
            100, 0.01
        )


def test_twenty_customers_stand_side_by_side(page: Page) -> None:
    text = page.text("customers")
    ids = re.findall(r"Customer (c\d+)", text)
    assert len(ids) == len(set(ids)) == 20
    assert (ids[0], ids[-1]) == ("c000", "c059")
    # Customer 0 bought item 0 before the cut, and items 0 to 4 in the window.
    first = text[text.index("Customer c000") : text.index(f"Customer {ids[1]}")]
    assert "items bought before: 1 " in first
    assert "newest firstThing 0 Champion" in first
    assert f"✓ {EVIL}✓ i004" in first


def test_descriptions_cannot_break_out(html: str, page: Page) -> None:
    assert EVIL in page.text("customers")
    assert "<script" not in html
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})


def test_nothing_is_fetched(html: str, page: Page) -> None:
    assert not re.search(r"https?://|src=|url\(|@import", html)
    links = [attributes["href"] for _, attributes in page.tags if "href" in attributes]
    ids = {f"#{attributes['id']}" for _, attributes in page.tags if "id" in attributes}
    assert set(links) <= ids


def test_the_same_decision_gives_the_same_bytes(
    html: str, passed: Decision, dataset: Dataset
) -> None:
    assert render(passed, POLICY, dataset, TABLES) == html
    assert len(html.encode()) < 1_500_000


def test_lineage_names_dataset_runs_and_policy(page: Page, dataset: Dataset) -> None:
    text, rows = page.text("lineage"), list(page.cells("lineage"))
    assert dataset.digest in text
    assert ["test", "2024-10-04", "2024-10-17", "1,234", "–"] in rows
    assert ["run id", "run-popularity", "run-als"] in rows
    assert ["trained", *["2023-11-14 22:13 UTC"] * 2] in rows
    assert ["parameter algorithm", "popularity", "als"] in rows
    assert "dataset_digest" not in text
    assert any(row[:2] == ["guardrails other_question", "0.05"] for row in rows)


def test_speed_is_told_where_it_is_known(dataset: Dataset) -> None:
    quick = dataclasses.replace(ALS, metrics=ALS.metrics | SPEED)
    page = Page(render(decided(dataset, POPULARITY, quick), POLICY, dataset, TABLES))
    assert [row[1:] for row in list(page.cells("speed"))[1:]] == [
        ["–", "2.5 MB"], ["–", "12.3 s"], ["–", "45,678"],
    ]  # fmt: skip


def test_replenish_may_decide(dataset: Dataset) -> None:
    decision = decided(dataset, POPULARITY, ALS, metric="replenish/recall_at_10")
    page = Page(render(decision, POLICY, dataset, TABLES))
    decides = next(row for row in page.cells("metrics") if "decides" in row[0])
    assert decides[0].startswith("recall@10")
    assert page.text("metrics").startswith("Metrics replenish, the deciding question")


def test_without_a_challenger_the_champion_tells_of_itself(dataset: Dataset) -> None:
    decision = decided(dataset, POPULARITY)
    page = Page(render(decision, POLICY, dataset, TABLES))
    assert decision.sentence in page.text("verdict")
    assert any(row[1:] == ["0.2500", "0.2000 … 0.3000"] for row in page.cells("metrics"))
    assert set(page.texts) - {""} == {"verdict", "metrics", "lineage", "speed"}


@pytest.mark.parametrize("values", [[], [0.0], [-0.02, 0.05], [0.3, 0.4], [-1e-9, -2e-9]])
def test_a_scale_holds_its_values_and_zero(values: list[float]) -> None:
    found = scale(values)
    assert found.low <= min(values, default=0) <= max(values, default=0) <= found.high
    assert found.low < 0 < found.high
    assert 0 < found.at(found.low) < found.at(found.high) < 100
    assert found.at(found.high + 1) == found.at(found.high)
