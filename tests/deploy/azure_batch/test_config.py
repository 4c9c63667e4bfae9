from typing import Any

import pytest

from deploy.azure_batch.config import BackendConfig
from deploy.cluster.cost import cost_of
from recsys.errors import UsageError

IDENTITY = (
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity"
    "/userAssignedIdentities/recsys"
)
GOOD: dict[str, Any] = {
    "batch_endpoint": "https://shop.westeurope.batch.azure.com",
    "storage": "https://shop.blob.core.windows.net/recsys",
    "identity": IDENTITY,
}


def with_pool(**values: object) -> dict[str, Any]:
    return GOOD | {"pool": values}


def test_what_mlflow_adds_is_left_out() -> None:
    added = {"ENV_MANAGER": None, "SYNCHRONOUS": True, "build_image": False, "docker_auth": None}

    assert BackendConfig.from_backend(GOOD | added) == BackendConfig.from_backend(GOOD)


def test_the_sample_configuration_is_one() -> None:
    sample = BackendConfig.from_file("deploy/azure_batch.json")

    assert sample.pool.nodes == 3
    assert cost_of(sample).money == pytest.approx(4 * (0.5 + 2 * 0.1))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (GOOD | {"pools": {}}, "unknown parameter 'pools'"),
        (with_pool(nodes=3), "unknown parameter 'pool.nodes'"),
        ({"storage": "az://recsys"}, "'batch_endpoint' is missing"),
        (with_pool(workers=8, max_nodes=8), "raise pool.max_nodes"),
        (with_pool(driver="spot", low_priority=False), "pool.driver=dedicated"),
        (GOOD | {"identity": None}, "identity is missing"),
        (GOOD | {"storage": "https://a.blob.core.windows.net/c?sv=1&sig=abc"}, "take it out"),
        (GOOD | {"variables": {"X": "AccountKey=abc"}}, "take it out"),
        (with_pool(container_image="shop/recsys:1"), "pool.environment"),
        (GOOD | {"max_hours": 0}, "max_hours=0 is not usable"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_cure(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        BackendConfig.from_backend(values)


def test_one_node_needs_no_identity() -> None:
    values = with_pool(workers=0) | {"identity": None}

    assert BackendConfig.from_backend(values).pool.nodes == 1


PRICES = {"price_per_node_hour": {"dedicated": 1.0, "spot": 0.2}, "max_hours": 5}


@pytest.mark.parametrize(
    ("pool", "money", "line"),
    [
        ({}, 5 * (1 + 2 * 0.2), "1 dedicated and 2 Spot nodes for 5 h, at most 7.00"),
        ({"driver": "spot"}, 5 * 3 * 0.2, "3 Spot nodes for 5 h, at most 3.00"),
        ({"low_priority": False}, 5 * 3 * 1.0, "3 dedicated nodes for 5 h, at most 15.00"),
        ({"workers": 0}, 5 * 1.0, "1 dedicated node for 5 h, at most 5.00"),
    ],
)
def test_a_job_costs_at_most_its_nodes_times_hours_times_price(
    pool: dict[str, Any], money: float, line: str
) -> None:
    cost = cost_of(BackendConfig.from_backend(with_pool(**pool) | PRICES))

    assert cost.money == pytest.approx(money)
    assert cost.line() == line


def test_a_job_above_its_limit_is_refused_with_the_number() -> None:
    config = BackendConfig.from_backend(GOOD | PRICES | {"max_cost": 6.9})

    with pytest.raises(UsageError, match=r"could cost 7\.00 .* lower pool\.workers or max_hours"):
        cost_of(config)


def test_a_limit_without_prices_is_refused() -> None:
    with pytest.raises(UsageError, match="needs price_per_node_hour"):
        cost_of(BackendConfig.from_backend(GOOD | {"max_cost": 5}))
