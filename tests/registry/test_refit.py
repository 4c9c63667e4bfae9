"""A winner fitted again on everything: what it keeps, what it is held against, what is refused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from pyspark.sql import SparkSession

from experiments.train import TrainedRun, run_train
from recsys.data.dataset import Dataset
from recsys.errors import DataError, ModelError, UsageError
from recsys.models import arrays, checkpoint, files
from recsys.models.als import AlsParameters
from recsys.models.item_item import ItemItemParameters
from recsys.scoring import TREND
from recsys.session import ROOT
from recsys.storage import Place, folders_in, local_path, place_of, write_file
from recsys.tracking import ALGORITHM_TAG, DIGEST_TAG, MODEL_DIGEST_TAG, MODEL_ID_TAG, RECIPE_TAG
from recsys.training import fit_plan
from registry import candidates
from registry.candidates import create_candidate
from registry.evidence import entrants
from registry.refit import Refit, RefitConfig, main, run_refit
from registry.refit_models import fit_again
from registry.releases import (
    DATASET_DIGEST,
    MODEL_DIGEST,
    candidates_of,
    find_version,
    to_release,
    verified_model,
    versions_of,
)
from tests import azurite
from tests.recsys.builders import DAYS, FIRST_DAY, TEST_CUT, Line, write_interactions
from tests.stores import keep_below

NAME = candidates_of("recommender")
PARAMETERS = ItemItemParameters(neighbours=9, repeat_weight=1.5)
# Thirty items and a few hundred purchases: four weeks change more here than in a real shop.
LOOSE = {"least_overlap": 0.3, "score_factor": 2.0, "spread_factor": 2.0}
LOOSE |= {"least_items": 0.95, "least_shelf": 0.5, "least_customers": 0.95}
STRICT = {"least_overlap": 0.9, "score_factor": 1.01, "spread_factor": 1.01}
STRICT |= {"least_items": 0.9, "least_shelf": 0.9, "least_customers": 0.95}
DOSSIER = "/#/experiments/1/runs/abc/artifacts/dossier.html"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An MLflow store for all tests of this module."""
    folder, previous = tmp_path_factory.mktemp("refit"), mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        keep_below(folder)
        yield folder
        mlflow.set_tracking_uri(previous)


@pytest.fixture(scope="module")
def trained(spark: SparkSession, dataset: Dataset, store: Path) -> TrainedRun:
    return run_train("item_item", str(dataset.path), PARAMETERS, spark)


@pytest.fixture(scope="module")
def evaluated(dataset: Dataset, trained: TrainedRun) -> int:
    """The candidate that was compared."""
    [entrant] = entrants(dataset.digest)
    tags = {
        MODEL_DIGEST: entrant.model_digest,
        DATASET_DIGEST: dataset.digest,
        ALGORITHM_TAG: entrant.algorithm,
        RECIPE_TAG: entrant.recipe,
        candidates.DOSSIER_TAG: DOSSIER,
        candidates.AUTHOR_TAG: "sam",
    }
    model = entrant.model_uri.removeprefix("models:/")
    return create_candidate(NAME, entrant.run_id, model, "It won.", tags)


@pytest.fixture(scope="module")
def limits(store: Path) -> str:
    return written(store / "loose.yaml", LOOSE)


@pytest.fixture(scope="module")
def refit(spark: SparkSession, evaluated: int, interactions_path: Path, limits: str) -> Refit:
    return run_refit(asked(evaluated, interactions_path, limits=limits), spark)


def written(file: Path, limits: dict[str, float]) -> str:
    file.write_text(yaml.safe_dump(limits), "utf-8")
    return str(file)


def asked(version: int, interactions: Path, **changes: object) -> RefitConfig:
    values = {"version": version, "interactions": str(interactions), **changes}
    return RefitConfig.checked(values, "test")


def model_place(run_id: str) -> str:
    """Return where the model that a run names lies."""
    model = mlflow.get_run(run_id).data.tags[MODEL_ID_TAG]
    return str(mlflow.get_logged_model(model).artifact_location)


def newest_run() -> Run:
    runs = mlflow.search_runs(
        experiment_names=["recsys"],
        filter_string="tags.`recsys.step` = 'refit'",
        order_by=["attributes.start_time DESC"],
        output_format="list",
    )
    return runs[0]


def test_the_recipe_is_kept(refit: Refit, evaluated: int) -> None:
    before, now = (find_version(NAME, version) for version in (evaluated, refit.candidate))
    assert now.tags[RECIPE_TAG] == before.tags[RECIPE_TAG]
    with verified_model(to_release(now)) as model:
        header, _ = files.read_header(model)
    assert (header.algorithm, header.parameters) == ("item_item", PARAMETERS)


def test_the_fit_sees_the_last_day(refit: Refit, evaluated: int) -> None:
    headers, items = [], []
    for version in (evaluated, refit.candidate):
        with verified_model(to_release(find_version(NAME, version))) as model:
            headers.append(files.read_header(model)[0])
            items.append(set(pq.read_table(model / files.ITEMS)["item_id"].to_pylist()))
    assert [header.before for header in headers] == [TEST_CUT, FIRST_DAY + DAYS]
    # Three customers and one item are new in the test window.
    assert headers[1].customers - headers[0].customers == 3
    assert items[1] - items[0] == {"029"}


def test_it_names_the_version_that_the_dossier_speaks_of(
    refit: Refit, evaluated: int, trained: TrainedRun
) -> None:
    before, now = (find_version(NAME, version) for version in (evaluated, refit.candidate))
    assert now.tags["recsys.evaluated_version"] == str(evaluated)
    assert now.tags["recsys.evaluated_run"] == trained.run_id
    assert now.tags["recsys.evaluated_model_digest"] == before.tags[MODEL_DIGEST]
    assert now.tags["recsys.dossier"] == DOSSIER
    assert now.description.startswith(
        f"Refit of version {evaluated} on all interactions until 2024-04-09; the dossier speaks of "
        f"version {evaluated}, which was fitted on all before 2024-03-27."
    )
    assert f"({DOSSIER})" in now.description


def test_its_authors_are_those_of_the_evaluated_model_and_who_refitted(refit: Refit) -> None:
    authors = candidates.authors_of(find_version(NAME, refit.candidate))
    assert authors == {"sam", mlflow.get_run(refit.run_id).info.user_id}


def test_the_run_carries_the_model_and_the_checks(refit: Refit) -> None:
    run, version = mlflow.get_run(refit.run_id), find_version(NAME, refit.candidate)
    assert run.info.status == "FINISHED"
    assert run.data.tags[MODEL_DIGEST_TAG] == refit.model_digest == version.tags[MODEL_DIGEST]
    assert run.data.tags[DIGEST_TAG] == version.tags[DATASET_DIGEST]
    assert model_place(run.info.run_id) == version.source
    assert run.data.params["neighbours"] == "9"
    told = mlflow.artifacts.load_dict(f"runs:/{refit.run_id}/refit.json")
    assert told["version"] == refit.candidate - 1
    assert [one["name"] for one in told["checks"]] == [one.name for one in refit.checks]
    assert all(one["passed"] for one in told["checks"])
    # 53 customers are known to both; of the 30 items one is new.
    assert told["customers_compared"] == told["customers"]["both"] == told["customers"]["before"]
    assert (told["items"]["new"], told["items"]["gone"]) == (1, 0)
    artifacts = {a.path for a in MlflowClient().list_artifacts(refit.run_id)}
    assert {"refit.json", "refit.html", "plots"} <= artifacts
    assert {f"refit/{one.name}" for one in refit.checks} <= set(run.data.metrics)


def test_a_refit_is_no_entrant_of_a_comparison(
    refit: Refit, dataset: Dataset, trained: TrainedRun
) -> None:
    assert [entrant.run_id for entrant in entrants(dataset.digest)] == [trained.run_id]
    with pytest.raises(DataError, match=f"Run {refit.run_id}"):
        entrants(dataset.digest, [refit.run_id])


def test_the_same_refit_again_registers_nothing_new(
    refit: Refit, evaluated: int, interactions_path: Path, limits: str, spark: SparkSession
) -> None:
    again = run_refit(asked(evaluated, interactions_path, limits=limits), spark)
    assert (again.candidate, again.new) == (refit.candidate, False)
    assert again.model_digest == refit.model_digest
    assert again.run_id != refit.run_id
    assert len(versions_of(NAME)) == 2
    assert models_of(again.run_id) == []


def models_of(run_id: str) -> list[object]:
    experiment = mlflow.get_run(run_id).info.experiment_id
    return list(
        MlflowClient().search_logged_models(
            [experiment], filter_string=f"source_run_id = '{run_id}'"
        )
    )


def test_a_refit_of_a_refit_is_refused(refit: Refit, evaluated: int, store: Path) -> None:
    with pytest.raises(UsageError, match=f"itself a refit, of version {evaluated}"):
        main(asked(refit.candidate, store))


def test_a_version_that_is_not_there_is_refused(evaluated: int, store: Path) -> None:
    with pytest.raises(UsageError, match="has no version 99"):
        main(asked(99, store))


def test_a_poor_refit_is_refused_by_each_check_by_name(
    evaluated: int,
    retailer_lines: list[Line],
    spark: SparkSession,
    tmp_path: Path,
) -> None:
    """Half of the customers, and of the items the half that was not lost took others' places."""
    kept = [f"{item:03d}" for item in range(0, 30, 2)]
    others = dict(zip(kept, np.random.default_rng(3).permutation(kept), strict=True))
    lines = [
        replace(line, item=str(others[line.item]))
        for line in retailer_lines
        if line.item in others and (line.customer is None or int(line.customer) % 2)
    ]
    before = len(versions_of(NAME))
    config = asked(
        evaluated,
        write_interactions(tmp_path / "poor", lines),
        limits=written(tmp_path / "strict.yaml", STRICT),
    )
    with pytest.raises(
        ModelError, match=f"refit of version {evaluated} is no candidate"
    ) as refused:
        run_refit(config, spark)
    names = ("overlap_at_10", "score_mean", "score_spread", "items", "shelf", "customers")
    for name in names:
        assert f"{name}: " in str(refused.value)
    run = newest_run()
    assert run.info.status == "FAILED"
    assert run.data.tags["recsys.error"].startswith("ModelError: The refit of version")
    told = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/refit.json")
    assert [one["name"] for one in told["checks"] if not one["passed"]] == list(names)
    assert "✗ refused" in mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/refit.html")
    assert len(versions_of(NAME)) == before
    assert models_of(run.info.run_id) == []
    assert MODEL_DIGEST_TAG not in run.data.tags


def test_interactions_without_anything_new_are_refused(
    evaluated: int, retailer_lines: list[Line], spark: SparkSession, tmp_path: Path
) -> None:
    lines = [line for line in retailer_lines if line.day < TEST_CUT]
    table = write_interactions(tmp_path / "old", lines)
    with pytest.raises(DataError, match="fitted on all before 2024-03-27: ingest what was bought"):
        run_refit(asked(evaluated, table), spark)


def test_interactions_of_another_retailer_are_refused(
    evaluated: int, retailer_lines: list[Line], spark: SparkSession, tmp_path: Path
) -> None:
    lines = [replace(line, item=f"other-{line.item}") for line in retailer_lines]
    table = write_interactions(tmp_path / "other", lines)
    with pytest.raises(ModelError, match="trained on other data"):
        run_refit(asked(evaluated, table), spark)


def test_a_candidate_whose_files_were_changed_is_not_refitted(
    evaluated: int, interactions_path: Path, spark: SparkSession, store: Path
) -> None:
    place = model_place(find_version(NAME, evaluated).run_id)
    [file] = local_path(place).rglob(files.HEADER)
    honest = file.read_bytes()
    try:
        file.write_bytes(honest.replace(b'"neighbours": 9', b'"neighbours": 8'))
        with pytest.raises(ModelError, match="was changed"):
            run_refit(asked(evaluated, interactions_path), spark)
    finally:
        file.write_bytes(honest)


@pytest.mark.slow
def test_a_fit_that_was_killed_goes_on(
    spark: SparkSession,
    dataset: Dataset,
    interactions_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parameters, history = AlsParameters(factors=4, iterations=7), dataset.test.history
    fitted = fit_plan(spark, "als", parameters, history, tmp_path / "before").plan
    model, kept = tmp_path / "model", tmp_path / "checkpoints"
    numbers = (history.before, history.customers, history.items)
    header = files.Header("als", parameters, dataset.digest, *numbers)
    trend = np.asarray(arrays.read(place_of(fitted.terms), TREND)[0])
    files.save(place_of(fitted.model), header, history, trend, model)

    def killed(folder: Place) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "clear", killed)
        saved = tmp_path / "never"
        fit_again(spark, model, str(interactions_path), tmp_path / "killed", saved, kept)
    capsys.readouterr()
    saved = tmp_path / "saved"
    models = fit_again(spark, model, str(interactions_path), tmp_path / "after", saved, kept)
    assert "going on after iteration" in capsys.readouterr().out
    assert files.check(saved) == models.digest
    assert not kept.exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_over_a_cloud_comes_to_the_same_model(
    refit: Refit,
    evaluated: int,
    interactions_path: Path,
    limits: str,
    emulator: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A child of its own: this session's Spark has no jars for Azure.
    for name in [n for n in os.environ if n.startswith("PYSPARK_GATEWAY")]:
        monkeypatch.delenv(name)
    container = azurite.container(emulator, monkeypatch)
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECSYS_SCRATCH", f"{container}/scratch")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())
    place = place_of(f"{container}/interactions")
    for file in interactions_path.iterdir():
        write_file(place / file.name, file.read_bytes())
    command = [sys.executable, "-m", "registry.refit", "--version", str(evaluated)]
    command += ["--interactions", str(place), "--limits", limits]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"version {refit.candidate} of {NAME} was registered before" in done.stdout
    assert folders_in(place.parent) == ["interactions"]
