"""What the whole flow's results promise."""

import json
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from deploy.batch_score import BatchScoreConfig, run_batch_score
from deploy.pipeline import Outcome, summary
from experiments.train import run_train
from recsys.data.tables import read_tables
from recsys.errors import DataError, ModelError, UsageError
from recsys.models import ALGORITHMS
from recsys.published import published_files, read_manifest, read_published
from recsys.schemas import AUDIENCE, RECOMMENDATIONS
from recsys.storage import CommitLog, store_of
from registry.compare import CompareConfig, run_compare
from registry.promote import PromoteConfig, run_promote
from registry.releases import verified_model
from registry.trust import find_holder, holder_of


def _score(outcome: Outcome, place: Path, spark: SparkSession, **changes: object) -> object:
    values = {
        "interactions": str(place / "out" / "ingested"),
        "output": str(place / "scored"),
        **changes,
    }
    return run_batch_score(BatchScoreConfig.checked(values, "test"), spark)


def test_every_customer_of_the_interactions_gets_k_distinct_new_items(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    interactions = read_tables(spark, place / "out" / "ingested").interactions
    customers = interactions.where("customer_id is not null").select("customer_id").distinct()
    table = read_published(spark, place / "out" / "recommendations")
    lists = table.groupBy("customer_id").agg(
        F.count("*").alias("rows"),
        F.count_distinct("item_id").alias("items"),
        F.sort_array(F.collect_list("rank")).alias("ranks"),
    )
    audience = read_published(spark, place / "out" / "recommendations", "audience")
    assert customers.exceptAll(audience.select("customer_id")).count() == 0
    assert audience.count() == customers.count() == outcome.scored.customers
    full = lists.where((F.col("rows") == 5) & (F.col("items") == 5))
    short = audience.where("shortfall is not null").count()
    control = audience.where("arm = 'control'")
    assert full.count() == customers.count() - short - control.count()
    assert 0 < control.count() < customers.count() / 5
    assert table.join(control, "customer_id", "left_semi").count() == 0
    assert (
        lists.where(F.col("ranks") != F.sequence(F.lit(1), F.col("rows").cast("int"))).count() == 0
    )
    bought = interactions.select("customer_id", "item_id").distinct()
    assert table.join(bought, ["customer_id", "item_id"]).count() == 0


def test_the_tables_have_the_columns_of_the_contract(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    output = place / "out" / "recommendations"
    assert read_published(spark, output).columns == RECOMMENDATIONS.names
    assert read_published(spark, output, "audience").columns == AUDIENCE.names


def test_scores_fall_with_the_rank(outcome: Outcome, place: Path, spark: SparkSession) -> None:
    table = read_published(spark, place / "out" / "recommendations").alias("a")
    after = table.alias("b")
    rising = table.join(after, F.col("a.customer_id") == F.col("b.customer_id")).where(
        (F.col("b.rank") == F.col("a.rank") + 1)
        & (F.col("a.source") == F.col("b.source"))
        & (F.col("b.score") > F.col("a.score"))
    )
    assert rising.count() == 0


def test_the_manifest_lists_exactly_the_files_of_the_table(outcome: Outcome, place: Path) -> None:
    output = place / "out" / "recommendations"
    commit, manifest = read_manifest(output)
    assert commit.number == outcome.scored.commit == 1
    rows = sum(part["rows"] for part in manifest["files"] if part["table"] == "recommendations")
    assert rows == outcome.scored.rows == manifest["facts"]["counts"]["rows"]
    assert all(Path(file).is_file() for file in published_files(output))


def test_each_training_run_carries_what_a_scientist_compares(outcome: Outcome) -> None:
    for trained in outcome.trained:
        run = mlflow.get_run(trained.run_id)
        names = set(run.data.metrics)
        for question in ("", "replenish/"):
            for window in ("validation", "test"):
                for k in (5, 10, 20):
                    assert f"{window}/{question}ndcg_at_{k}" in names
                    assert f"{window}/{question}revenue_recall_at_{k}" in names
                assert f"{window}/{question}recall_at_10_low" in names
                assert f"{window}/{question}coverage_at_10" in names
        assert run.data.params["dataset_digest"] == run.data.tags["recsys.dataset_digest"][:16]
        assert run.inputs.dataset_inputs[0].dataset.digest == run.data.params["dataset_digest"]
        parameters = ALGORITHMS[trained.algorithm].parameters_class.model_fields
        assert set(parameters) <= set(run.data.params)
        artifacts = {a.path for a in MlflowClient().list_artifacts(trained.run_id, "samples")}
        assert artifacts == {"samples/discover.json", "samples/replenish.json"}
        assert run.info.status == "FINISHED"


def test_als_logs_its_loss_at_each_step(outcome: Outcome) -> None:
    als = next(t for t in outcome.trained if t.algorithm == "als")
    losses = MlflowClient().get_metric_history(als.run_id, "train/loss")
    values = [m.value for m in sorted(losses, key=lambda m: m.step)]
    assert len(values) == 15
    assert values[-1] < values[0]


def test_every_run_says_what_it_is_and_what_to_look_at_next(outcome: Outcome) -> None:
    runs = mlflow.search_runs(experiment_ids=[outcome.experiment_id], output_format="list")
    notes = {run.data.tags["recsys.step"]: run.data.tags["mlflow.note.content"] for run in runs}
    assert set(notes) >= {"main", "ingest", "prepare", "als", "compare", "promote", "batch_score"}
    assert all(len(note) > 20 for note in notes.values())
    assert "registry.compare" in notes["als"]


def test_the_runs_are_children_of_one_parent(outcome: Outcome) -> None:
    steps = {
        run.data.tags.get("mlflow.parentRunId"): run.data.tags["recsys.step"]
        for run in mlflow.search_runs(experiment_ids=[outcome.experiment_id], output_format="list")
    }
    parents = {parent for parent in steps if parent}
    assert len(parents) == 1


def test_the_logged_model_loads_as_pyfunc_without_pickle(outcome: Outcome) -> None:
    folder = Path(
        mlflow.artifacts.download_artifacts(f"models:/recommender/{outcome.release.version}")
    )
    assert not [f for f in folder.rglob("*") if f.suffix in (".pkl", ".pickle", ".py")]
    model = mlflow.pyfunc.load_model(f"models:/recommender/{outcome.release.version}")
    import pandas as pd

    shown = model.predict(pd.DataFrame({"customer_id": ["a stranger"]}), params={"k": 3})
    assert list(shown["rank"]) == [1, 2, 3]
    assert shown["item_id"].is_unique


def test_the_summary_names_models_release_and_table(outcome: Outcome) -> None:
    text = summary(outcome)
    for word in ("popularity", "item_item", "als", "Production", "commit 1", "make ui"):
        assert word in text


def test_training_again_gives_the_same_model(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    als = next(t for t in outcome.trained if t.algorithm == "als")
    again = run_train(
        "als", str(place / "out" / "dataset"), ALGORITHMS["als"].parameters_class(), spark
    )
    digests = [
        mlflow.get_run(run).data.tags["recsys.model_digest"] for run in (als.run_id, again.run_id)
    ]
    assert digests[0] == digests[1]
    assert again.metrics == als.metrics


def test_comparing_again_registers_nothing_new(outcome: Outcome, place: Path) -> None:
    compared = run_compare(CompareConfig(dataset=str(place / "out" / "dataset")))
    versions = MlflowClient().search_model_versions("name='recommender-candidates'")
    assert compared.candidate == 1
    assert len(versions) == 1


def test_promoting_again_changes_nothing(outcome: Outcome) -> None:
    release = run_promote(PromoteConfig(version=1, reviewer="anna"))
    assert release.version == outcome.release.version
    assert len(MlflowClient().search_model_versions("name='recommender'")) == 1
    assert holder_of("recommender", "Production") == holder_of("recommender", "production")


def test_scoring_again_adds_a_commit_with_the_same_rows(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    for slot in ("2026-11-23", "2026-11-24"):
        _score(outcome, place, spark, k=3, slot=slot)
    first, second = (
        read_published(spark, place / "scored", commit=n).drop("scored_at") for n in (1, 2)
    )
    assert first.exceptAll(second).count() == second.exceptAll(first).count() == 0
    assert CommitLog(store_of(place / "scored")).head().number == 2  # type: ignore[union-attr]


def test_replenish_may_recommend_what_was_bought(
    outcome: Outcome, place: Path, spark: SparkSession
) -> None:
    _score(outcome, place, spark, strategy="replenish", output=str(place / "replenish"))
    bought = read_tables(spark, place / "out" / "ingested").interactions
    table = read_published(spark, place / "replenish")
    assert table.join(bought, ["customer_id", "item_id"], "left_semi").count() > 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stage": "Staging"}, UsageError, "No version of recommender holds Staging"),
        ({"strategy": "nonsense"}, UsageError, "There is no strategy 'nonsense'"),
        ({"k": 100_000}, UsageError, "is more than the"),
        ({"model_name": "unknown"}, UsageError, "No version of unknown holds Production"),
        ({"interactions": "nowhere"}, DataError, "There is nothing in nowhere"),
    ],
)
def test_a_bad_parameter_publishes_nothing(
    outcome: Outcome,
    place: Path,
    spark: SparkSession,
    changes: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        _score(outcome, place, spark, output=str(place / "refused"), **changes)
    assert not (place / "refused").exists()


def test_other_data_is_refused(outcome: Outcome, place: Path, spark: SparkSession) -> None:
    other = read_tables(spark, place / "out" / "ingested").interactions.withColumn(
        "item_id", F.concat(F.lit("other-"), "item_id")
    )
    other.write.parquet(str(place / "other" / "interactions"))
    with pytest.raises(ModelError, match="trained on other data"):
        _score(outcome, place, spark, interactions=str(place / "other"), output="never")
    assert not Path("never").exists()


def test_a_changed_model_is_refused(outcome: Outcome, place: Path, spark: SparkSession) -> None:
    holder = find_holder("recommender", "Production")
    assert holder is not None
    files = list((place / "artifacts").rglob("model.json"))
    originals = {file: file.read_bytes() for file in files}
    try:
        for file, data in originals.items():
            file.write_bytes(data + b" ")
        with pytest.raises(ModelError, match="was changed after"), verified_model(holder):
            pass
    finally:
        for file, data in originals.items():
            file.write_bytes(data)


def _compare_run(outcome: Outcome) -> Run:
    return mlflow.search_runs(
        experiment_ids=[outcome.experiment_id],
        filter_string="tags.`recsys.step` = 'compare'",
        order_by=["attributes.start_time ASC"],
        output_format="list",
    )[0]


def test_the_decision_is_logged_with_its_evidence(outcome: Outcome) -> None:
    path = mlflow.artifacts.download_artifacts(
        run_id=_compare_run(outcome).info.run_id, artifact_path="decision.json"
    )
    decision = json.loads(Path(path).read_text("utf-8"))
    runs = {t.run_id for t in outcome.trained}
    assert decision["winner"] in runs
    assert {c["run"] for c in decision["challengers"]} == runs - {decision["champion"]}
    for challenger in decision["challengers"]:
        assert challenger["passed"] == all(gate["passed"] for gate in challenger["gates"])
        assert {"ndcg_at_10", "replenish/ndcg_at_10", "coverage_at_10"} <= set(
            challenger["metrics"]
        )
        assert sum(s["by"] == "activity" for s in challenger["segments"]) > 1


def test_the_candidate_links_its_dossier(outcome: Outcome) -> None:
    version = MlflowClient().get_model_version("recommender-candidates", "1")
    link = version.tags["recsys.dossier"]
    assert f"]({link})" in version.description
    run_id = link.split("/runs/")[1].split("/")[0]
    dossier = mlflow.artifacts.load_text(f"runs:/{run_id}/dossier.html")
    assert version.description.split("\n")[0].split(":")[0] in dossier
    experiment = MlflowClient().get_experiment(outcome.experiment_id)
    assert "[its dossier](/#/experiments/" in experiment.tags["mlflow.note.content"]
    # Comparing again, where it stays, does not rewrite what it was registered for.
    assert run_id == _compare_run(outcome).info.run_id


def test_runs_that_cannot_be_compared_are_refused(outcome: Outcome, place: Path) -> None:
    dataset = str(place / "out" / "dataset")
    with pytest.raises(DataError, match="There is no run nowhere"):
        run_compare(CompareConfig(dataset=dataset, runs="nowhere"))
    compared = _compare_run(outcome).info.run_id
    with pytest.raises(DataError, match="trained no model: choose a training run"):
        run_compare(CompareConfig(dataset=dataset, runs=compared))
    client, run_id = MlflowClient(), outcome.trained[0].run_id
    digest = client.get_run(run_id).data.tags["recsys.dataset_digest"]
    client.set_tag(run_id, "recsys.dataset_digest", "another")
    try:
        with pytest.raises(DataError, match="was judged on dataset another, not on"):
            run_compare(CompareConfig(dataset=dataset, runs=run_id))
    finally:
        client.set_tag(run_id, "recsys.dataset_digest", digest)


def test_a_run_without_its_hit_table_is_refused(outcome: Outcome, place: Path) -> None:
    run_id = outcome.trained[1].run_id
    folder = place / "artifacts" / run_id / "artifacts" / "hits" / "test"
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    try:
        with pytest.raises(DataError, match=f"Run {run_id} has no readable hit table .*test"):
            run_compare(CompareConfig(dataset=str(place / "out" / "dataset")))
    finally:
        hidden.rename(folder)


def test_a_metric_that_no_run_logged_is_refused(outcome: Outcome, place: Path) -> None:
    with pytest.raises(UsageError, match="did not log test/ndgc_at_10: choose one of .*ndcg_at_10"):
        run_compare(CompareConfig(dataset=str(place / "out" / "dataset"), metric="ndgc_at_10"))


def test_a_column_may_be_compared_by_group(outcome: Outcome, place: Path) -> None:
    config = CompareConfig(dataset=str(place / "out" / "dataset"), segments="category")
    shown = run_compare(config).decision.shown
    assert shown is not None
    assert sum(s.by == "category" for s in shown.pairing.segments) > 1


def test_without_its_recipe_on_the_dataset_the_holder_cannot_be_challenged(
    outcome: Outcome, place: Path
) -> None:
    holder = holder_of("recommender", "Production")
    others = [t.run_id for t in outcome.trained if t.algorithm != holder.algorithm]
    config = CompareConfig(dataset=str(place / "out" / "dataset"), runs=",".join(others))
    with pytest.raises(DataError, match="its recipe was not trained on this dataset"):
        run_compare(config)
