"""Two months of a retailer: the second measures the first's campaign, whose effect is known."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlflow
import pytest
from pyspark.sql import SparkSession

from deploy.batch_score import PUBLISHED
from deploy.measure.run import MEASURED
from deploy.monthly import Month, MonthlyConfig, run_monthly
from experiments.simulate import run_simulate
from recsys.data.continued import ContinueConfig
from recsys.data.dataset import load_dataset
from recsys.data.simulate import SimulateConfig
from recsys.errors import RegistryError, UsageError
from recsys.published import published_table
from registry.rulebook import read_policy
from registry.trust import find_holder
from tests.stores import keep_below

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Year:
    """A retailer's folder, and what its months left."""

    place: Path
    months: list[Month]

    def config(self, slot: str, **changes: object) -> MonthlyConfig:
        values = {
            "source": f"{self.place}/landing/*/*.csv",
            "output": f"{self.place}/out",
            "slot": slot,
            "mapping": "simulated",
            "max_evals": 2,
            "k": 5,
        }
        return MonthlyConfig.checked(values | changes, "test")


@pytest.fixture(scope="module")
def year(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Year]:
    place, previous = tmp_path_factory.mktemp("year"), mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("MLFLOW_") or n == "RECSYS_LEDGER"]:
            patch.delenv(name)
        mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
        keep_below(place)
        first, then = str(place / "landing" / "first"), str(place / "landing" / "then")
        run_simulate(SimulateConfig(output=first, customers=400, items=120, days=200))
        year = Year(place, [])
        year.months.append(run_monthly(year.config("2024-08"), spark))
        lists = f"{place}/out/recommendations"
        run_simulate(
            ContinueConfig(output=then, continues=first, recommendations=lists, effect=1.0)
        )
        year.months.append(run_monthly(year.config("2024-09"), spark))
        yield year
        mlflow.set_tracking_uri(previous)


def test_the_first_month_has_nothing_to_measure_and_publishes(year: Year) -> None:
    first = year.months[0]
    assert (first.measured, first.promoted, first.scored.status) == (None, True, PUBLISHED)
    assert first.scored.commit == 1


def test_the_second_measures_the_campaign_of_the_first(year: Year) -> None:
    measured = year.months[1].measured
    assert measured is not None
    assert measured.status == MEASURED
    table = published_table(year.place / "out" / "campaign_results", "campaign_results")
    rows = [row for row in table.to_pylist() if row["segment_by"] == "all"]
    [orders] = [row for row in rows if row["metric"] == "orders_per_customer"]
    assert (orders["recommendations_commit"], orders["strategy"]) == (1, "next_best_products")
    # Orders were doubled: the interval holds the truth, and leaves out that nothing came of it.
    assert 0 < orders["relative_low"] < 1 < orders["relative_high"]


def test_the_second_scores_with_what_won_on_the_new_data(year: Year) -> None:
    second = year.months[1]
    assert (second.scored.status, second.scored.commit) == (PUBLISHED, 2)
    holder = find_holder("recommender", "Production")
    assert holder is not None
    assert second.scored.release == holder
    assert holder.digest == second.compared.decision.winner.model_digest
    assert holder.dataset_digest == load_dataset(str(year.place / "out" / "dataset")).digest


def test_where_approvals_are_wanted_the_winner_waits_and_what_nobody_signed_does_not_score(
    year: Year, spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.yaml"
    text = Path("registry/policy.yaml").read_text().replace("approvals: 0", "approvals: 2")
    policy.write_text(text)
    assert read_policy(str(policy)).stages["Production"].approvals == 2
    with pytest.raises(RegistryError, match="approv"):
        run_monthly(year.config("2024-10", policy=str(policy)), spark)
    told = capsys.readouterr().out
    assert "waits for 2 approval(s): python -m registry.review waiting" in told
    assert "no new data: the transactions end before" in told
    assert "slot 2024-09 was scored with those before" in told


@pytest.mark.parametrize(
    ("name", "value"),
    [("strategy", "nope"), ("policy", "nope.yaml"), ("algorithm", "nope"), ("mapping", "nope")],
)
def test_a_wrong_parameter_is_told_before_anything_is_begun(
    tmp_path: Path, name: str, value: str
) -> None:
    config, spark = Year(tmp_path, []).config("2024-08", **{name: value}), cast(Any, None)
    with pytest.raises(UsageError, match=value):
        run_monthly(config, spark)
    assert not any(tmp_path.iterdir())
