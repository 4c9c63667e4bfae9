"""Batch runs: strategies, hold-out, contact rule, reruns, audits, going back."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from deploy import collect, history, republish
from deploy.batch_score import ALREADY, PUBLISHED, BatchScoreConfig, Scored, main, run_batch_score
from deploy.pipeline import Outcome
from recsys import batch
from recsys.data.dataset import load_dataset
from recsys.data.tables import read_tables
from recsys.errors import DataError, UsageError
from recsys.published import published_files, read_manifest, read_published
from recsys.storage import CommitLog, store_of
from recsys.tracking import ALGORITHM_TAG
from registry.candidates import create_candidate
from registry.evidence import entrants
from registry.policy import POLICY_FILE
from registry.promote import PromoteConfig, run_promote
from registry.releases import DATASET_DIGEST, MODEL_DIGEST, candidates_of, releases_of
from tests.stores import keep_below


def score(place: Path, spark: SparkSession, output: str, **changes: object) -> Scored:
    values = {
        "interactions": str(place / "out" / "ingested"),
        "output": str(place / output),
        "k": 5,
        **changes,
    }
    return run_batch_score(BatchScoreConfig.checked(values, "test"), spark)


def strategy(place: Path, name: str, text: str) -> str:
    file = place / f"{name}.yaml"
    file.write_text(f"name: {name}\n{text}\n", "utf-8")
    return str(file)


def test_a_rerun_says_that_there_is_nothing_to_do(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    first = score(place, spark, "rerun")
    files = published_files(place / "rerun")
    again = score(place, spark, "rerun")
    assert (first.status, again.status) == (PUBLISHED, ALREADY)
    assert first.commit == again.commit == 1
    assert published_files(place / "rerun") == files
    assert (again.customers, again.rows) == (first.customers, first.rows)
    assert json.loads(again.line())["status"] == ALREADY


def test_a_slot_is_published_once_even_if_inputs_changed(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    first = score(place, spark, "slots", slot="2026-11")
    again = score(place, spark, "slots", slot="2026-11", k=4)
    later = score(place, spark, "slots", slot="2026-12", k=4)
    assert (again.status, again.rows) == (ALREADY, first.rows)
    assert (later.status, later.commit) == (PUBLISHED, 2)


def test_the_audience_is_those_who_meet_the_condition_each_once(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    file = strategy(
        place,
        "loyal",
        "audience: frequency >= 3 and recency_days <= 60\nhold_out: {share: 0.3, salt: x}",
    )
    score(place, spark, "loyal", strategy=file)
    interactions = read_tables(spark, place / "out" / "ingested").interactions
    last = interactions.agg(F.max(F.to_date("timestamp"))).collect()[0][0]
    facts = (
        interactions.where("customer_id is not null")
        .groupBy("customer_id")
        .agg(
            F.count_distinct("basket_id").alias("frequency"),
            (F.datediff(F.lit(last), F.max(F.to_date("timestamp"))) + 1).alias("recency"),
        )
    )
    meant = {r[0] for r in facts.where("frequency >= 3 and recency <= 60").collect()}
    audience = read_published(spark, place / "loyal", "audience").toPandas()
    assert audience["customer_id"].is_unique
    assert set(audience["customer_id"]) == meant
    control = set(audience[audience["arm"] == "control"]["customer_id"])
    given = {r[0] for r in read_published(spark, place / "loyal").select("customer_id").collect()}
    assert 0.1 < len(control) / len(meant) < 0.5
    assert given == meant - control
    assert (audience[audience["arm"] == "control"]["items"] == 0).all()


def test_items_obey_conditions_prices_and_availability(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    tables = read_tables(spark, place / "out" / "ingested")
    prices = tables.interactions.groupBy("item_id").agg(F.median("unit_price").alias("price"))
    middle = prices.agg(F.median("price")).collect()[0][0]
    stock = sorted(r[0] for r in tables.items.select("item_id").collect())[::2]
    (place / "stock.csv").write_text("\n".join(["item_id", *stock]) + "\n", "utf-8")
    category = tables.items.where("category is not null").collect()[0]["category"]
    file = strategy(
        place,
        "ruled",
        f"items: {{exclude: \"category = '{category}'\", price_to: {middle}, "
        "available: stock.csv}\nmost_a_category: 2",
    )
    score(place, spark, "ruled", strategy=file)
    table = read_published(spark, place / "ruled").join(tables.items, "item_id", "left")
    table = table.join(prices, "item_id").toPandas()
    assert set(table["item_id"]) <= set(stock)
    assert (table["price"] <= middle).all()
    assert not (table["category"] == category).any()
    assert table.groupby(["customer_id", "category"]).size().max() <= 2


def test_another_list_of_available_items_is_another_run(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    """Without a slot a new table is published whenever what decides on its rows has changed."""
    table = read_tables(spark, place / "out" / "ingested").items
    items = sorted(row["item_id"] for row in table.collect())
    file = strategy(place, "stocked", "items: {available: shelf.csv}")
    statuses = []
    for stock in (items[::2], items[::2], items[1::2]):
        (place / "shelf.csv").write_text("\n".join(["item_id", *stock]) + "\n", "utf-8")
        accept = "overlap=other stock; score_change=other stock"
        scored = score(place, spark, "stocked", strategy=file, accept=accept)
        statuses.append(scored.status)
        given = {r[0] for r in read_published(spark, place / "stocked").select("item_id").collect()}
        assert given <= set(stock)
    assert statuses == [PUBLISHED, ALREADY, PUBLISHED]


def test_what_a_customer_got_lately_is_not_given_again(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    file = strategy(place, "rested", "rest_runs: 2")
    runs = [score(place, spark, "rested", strategy=file, slot=slot).commit for slot in "abcd"]
    tables = [read_published(spark, place / "rested", commit=commit) for commit in runs]
    keys = [table.select("customer_id", "item_id") for table in tables]
    for later, earlier, same in ((1, 0, False), (2, 1, False), (2, 0, False), (3, 0, True)):
        assert (keys[later].intersect(keys[earlier]).count() > 0) == same


def test_bought_items_come_again_after_the_days_of_their_category(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    tables = read_tables(spark, place / "out" / "ingested")
    names = sorted(r[0] for r in tables.items.select("category").distinct().dropna().collect())
    file = strategy(
        place,
        "seen",
        f"seen: {{others: exclude, categories: {{'{names[0]}': 30, '{names[1]}': allow}}}}",
    )
    score(place, spark, "seen", strategy=file)
    last = tables.interactions.agg(F.max(F.to_date("timestamp"))).collect()[0][0]
    bought = tables.interactions.groupBy("customer_id", "item_id").agg(
        (F.datediff(F.lit(last), F.max(F.to_date("timestamp"))) + 1).alias("days")
    )
    again = read_published(spark, place / "seen").join(bought, ["customer_id", "item_id"])
    again = again.join(tables.items, "item_id").toPandas()
    assert len(again) > 0
    assert set(again["category"]) <= set(names[:2])
    assert (again[again["category"] == names[0]]["days"] > 30).all()
    assert (again[again["category"] == names[1]]["days"] <= 30).any()


@pytest.fixture(scope="module", params=["als", "item_item"])
def personal(request: pytest.FixtureRequest, outcome: Outcome, place: Path) -> str:
    """Release a personal model under its own name."""
    dataset = load_dataset(place / "out" / "dataset")
    (entrant,) = (e for e in entrants(dataset.digest) if e.algorithm == request.param)
    name = f"personal-{request.param}"
    candidate = create_candidate(
        candidates_of(name),
        entrant.run_id,
        entrant.model_uri.removeprefix("models:/"),
        "It was compared with nobody.",
        {
            MODEL_DIGEST: entrant.model_digest,
            DATASET_DIGEST: dataset.digest,
            ALGORITHM_TAG: entrant.algorithm,
        },
    )
    keep_below(place, releases_of(name))
    mlflow.set_experiment("recsys")
    policy = place / "lenient.yaml"
    policy.write_text(POLICY_FILE.read_text("utf-8").replace("offline_days: 0", "gates: []"))
    run_promote(PromoteConfig(model_name=name, version=candidate, policy=str(policy)))
    return name


def test_reasons_are_items_that_the_customer_bought(
    personal: str, place: Path, spark: SparkSession
) -> None:
    score(place, spark, personal, model_name=personal)
    table = read_published(spark, place / personal)
    bought = read_tables(spark, place / "out" / "ingested").interactions
    named = table.select("customer_id", F.explode("because").alias("item_id"))
    assert named.count() > 0
    assert named.join(bought, ["customer_id", "item_id"], "left_anti").count() == 0
    assert table.where("source = 'popularity' and because is not null").count() == 0


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_blocks_that_it_has(
    outcome: Outcome, place: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = score(place, spark, "clean", slot="x")
    with monkeypatch.context() as patch:
        patch.setattr("deploy.batch_score.publish", _killed)
        with pytest.raises(KeyboardInterrupt):
            score(place, spark, "killed", slot="x")
    assert CommitLog(store_of(place / "killed")).head() is None
    before = sorted((place / "killed").rglob("part-*.parquet"))
    resumed = score(place, spark, "killed", slot="x")
    assert sorted((place / "killed").rglob("part-*.parquet")) == before
    assert (resumed.rows, resumed.commit) == (clean.rows, 1)
    tables = [read_published(spark, place / name).drop("scored_at") for name in ("clean", "killed")]
    assert tables[0].exceptAll(tables[1]).count() == tables[1].exceptAll(tables[0]).count() == 0


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_block_whose_file_was_damaged_is_scored_again(
    outcome: Outcome, place: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("deploy.batch_score.publish", _killed)
        with pytest.raises(KeyboardInterrupt):
            score(place, spark, "damaged")
    truncated, flipped, deleted = sorted((place / "damaged").rglob("part-*.parquet"))[:3]
    truncated.write_bytes(truncated.read_bytes()[:-100])
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    deleted.unlink()
    resumed = score(place, spark, "damaged")
    clean = read_published(spark, place / "out" / "recommendations").drop("scored_at")
    table = read_published(spark, place / "damaged").drop("scored_at")
    assert resumed.status == PUBLISHED
    assert table.exceptAll(clean).count() == clean.exceptAll(table).count() == 0


def test_a_refused_table_leaves_the_last_one_and_can_be_accepted(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    score(place, spark, "audited", slot="1")
    few = strategy(place, "next_best_products", "audience: frequency >= 12")
    refused = {"strategy": few, "slot": "2"}
    with pytest.raises(Exception, match="the previous table stands: customers_change") as error:
        score(place, spark, "audited", **refused)
    assert getattr(error.value, "exit_code", None) == 3
    assert read_manifest(place / "audited")[0].number == 1
    reasons = "; ".join(
        f"{n}=fewer on purpose" for n in ("customers_change", "rows_change", "coverage_drop")
    )
    score(place, spark, "audited", accept=reasons, **refused)
    _, manifest = read_manifest(place / "audited")
    accepted = {a["audit"]: a["accepted"] for a in manifest["facts"]["audits"] if a["accepted"]}
    assert accepted["customers_change"] == "fewer on purpose"


def test_readers_go_back_to_an_earlier_table(
    outcome: Outcome, place: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    for slot, k in (("1", 3), ("2", 4)):
        score(place, spark, "back", slot=slot, k=k)
    first = published_files(place / "back", commit=1)
    config = {"output": str(place / "back"), "commit": 1, "reason": "wrong prices"}
    republish.main(republish.RepublishConfig.checked(config, "test"))
    assert published_files(place / "back") == first
    history.main(history.HistoryConfig(output=str(place / "back")))
    assert "commit 1 again: wrong prices" in capsys.readouterr().out
    Path(published_files(place / "back", commit=2)[0]).unlink()
    with pytest.raises(DataError, match="Commit 2 cannot be published again"):
        republish.main(republish.RepublishConfig.checked(config | {"commit": 2}, "test"))
    assert published_files(place / "back") == first


def test_collection_removes_only_what_nobody_can_hold(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    for slot in "123":
        score(place, spark, "collected", slot=slot)
    store = store_of(place / "collected")
    assert collect.collectable(store, keep=1, hours=1) == []
    later = datetime.now(UTC) + timedelta(hours=2)
    keys = collect.collectable(store, keep=2, hours=1, now=later)
    runs = {"/".join(key.split("/")[:3]) for key in keys}
    listed = [published_files(place / "collected", commit=n) for n in (1, 2, 3)]
    assert all(any(file.endswith(key) for key in keys) for file in listed[0])
    assert not any(file.endswith(key) for key in keys for file in listed[1] + listed[2])
    # Records of finished blocks are of no use once a run is committed.
    assert len(runs) == 3


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("audience: colour = 'red'", UsageError, "audience: .*columns: .*recency_days"),
        ("audience: frequency + 1", UsageError, "is no condition"),
        ("audience: frequency > 100000", DataError, "No customer meets the audience"),
        ("items: {price_from: 1.0e9}", DataError, "leave no item to recommend"),
        ("items: {available: nowhere.csv}", UsageError, "nowhere.csv cannot be used"),
        ("seen: {categories: {Nothing: allow}}", UsageError, "no category 'Nothing'"),
        ("segment: colour", UsageError, "segment=colour: the customers table has no such"),
    ],
)
def test_a_strategy_that_cannot_work_is_refused(
    outcome: Outcome,
    place: Path,
    spark: SparkSession,
    text: str,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        score(place, spark, "wrong", strategy=strategy(place, "wrong", text))
    assert CommitLog(store_of(place / "wrong", create=True)).head() is None


def test_a_strategy_is_explained_without_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    config = {"interactions": "x", "output": "y", "strategy": "win_back", "explain": True}
    main(BatchScoreConfig.checked(config, "test"))
    text = capsys.readouterr().out
    assert "customers where recency_days > 90" in text
    assert "days since the last purchase" in text
    assert not Path("y").exists()


def test_a_poisonous_block_ends_the_run_with_its_error(
    outcome: Outcome, place: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(given: batch.Batch, number: int) -> batch.BlockScored:
        if number == 1:
            raise ValueError("poison in block 1")
        return batch.score_block(given, number)

    monkeypatch.setattr("deploy.batch_run.score_block", poisoned)
    with pytest.raises(Exception, match="poison in block 1"):
        score(place, spark, "poisoned")
    assert CommitLog(store_of(place / "poisoned")).head() is None


def test_what_has_moved_since_the_fit_is_shown_and_published(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    score(place, spark, "moved")
    facts = read_manifest(place / "moved")[1]["facts"]
    run = mlflow.get_run(facts["mlflow_run_id"])
    found = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/drift.json")
    # The fit saw all but the test window of 28 days.
    assert found["after"]["days"] == 28
    warned = [finding["text"] for finding in found["findings"] if finding["warns"]]
    assert all(any(text in told for told in facts["drift"]) for text in warned)
    assert bool(facts["drift"]) == bool(warned)
    last = read_tables(spark, place / "out" / "ingested").interactions
    day = last.agg(F.max(F.to_date("timestamp"))).collect()[0][0] + timedelta(days=1)
    assert facts["interactions_end"] == day.isoformat()
