"""The entry points of MLproject are the parameters of the code, in the order of the flow."""

import importlib
from pathlib import Path

import pytest
import yaml

from deploy.batch_score import BatchScoreConfig
from deploy.measure.config import MeasureConfig
from deploy.monthly import MonthlyConfig
from deploy.pipeline import PipelineConfig
from experiments.ingest import IngestConfig
from experiments.prepare import PrepareConfig
from experiments.search import SearchConfig
from experiments.train import train_config
from recsys.config import Config
from recsys.data.continued import ContinueConfig
from registry.compare import CompareConfig
from registry.promote import PromoteConfig
from registry.refit import RefitConfig
from registry.rollback import RollbackConfig

PROJECT = yaml.safe_load((Path(__file__).parent.parent / "MLproject").read_text("utf-8"))
CONFIGS: dict[str, type[Config]] = {
    "main": PipelineConfig,
    "simulate": ContinueConfig,
    "ingest": IngestConfig,
    "prepare": PrepareConfig,
    "popularity": train_config("popularity"),
    "item_item": train_config("item_item"),
    "als": train_config("als"),
    "search": SearchConfig,
    "compare": CompareConfig,
    "refit": RefitConfig,
    "promote": PromoteConfig,
    "rollback": RollbackConfig,
    "batch_score": BatchScoreConfig,
    "measure": MeasureConfig,
    "monthly": MonthlyConfig,
}
ENTRY_POINTS = PROJECT["entry_points"]


def test_the_entry_points_stand_in_the_order_of_the_flow() -> None:
    assert list(ENTRY_POINTS) == list(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_is_one_of_the_code_and_is_passed(name: str) -> None:
    entry = ENTRY_POINTS[name]
    for parameter in entry["parameters"]:
        assert parameter in CONFIGS[name].model_fields
        assert f"--{parameter} {{{parameter}}}" in " ".join(entry["command"].split())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_parameter_without_default_is_required_in_both_places(name: str) -> None:
    fields = CONFIGS[name].model_fields
    required = {p for p, spec in ENTRY_POINTS[name]["parameters"].items() if "default" not in spec}
    assert required == {field for field in fields if fields[field].is_required()}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_default_of_the_project_is_the_default_of_the_code(name: str) -> None:
    for parameter, spec in ENTRY_POINTS[name]["parameters"].items():
        if isinstance(spec, dict) and spec.get("default") != "none" and "default" in spec:
            assert str(CONFIGS[name].model_fields[parameter].default) == str(spec["default"])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_command_runs_a_module_of_the_project(name: str) -> None:
    module = ENTRY_POINTS[name]["command"].split()[2]
    assert importlib.import_module(module).__doc__
