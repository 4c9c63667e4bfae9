from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.batch import BatchClient
from azure.batch.models import ResourceFile
from azure.core.credentials import AzureNamedKeyCredential

from deploy.azure_batch.config import BackendConfig
from deploy.cluster.pool import ensure_pool, pool_options
from deploy.cluster.template import resource, template
from recsys.errors import ClusterError, PoolError, UsageError
from tests.batch_service.server import running
from tests.batch_service.service import BatchService
from tests.deploy.azure_batch.test_config import GOOD, IDENTITY, with_pool

ARCHIVE = ResourceFile(
    http_url="https://a.example/e.tar.gz?sig=first", file_path="environment.tar.gz"
)
LATER = ResourceFile(
    http_url="https://a.example/e.tar.gz?sig=later", file_path="environment.tar.gz"
)
OTHER = ResourceFile(
    http_url="https://a.example/f.tar.gz?sig=first", file_path="environment.tar.gz"
)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[BatchService]:
    with running(tmp_path / "batch") as found:
        yield found


@pytest.fixture
def client(service: BatchService) -> BatchClient:
    return BatchClient(service.url, AzureNamedKeyCredential(service.account, service.key))


def config(service: BatchService | None = None, **pool: object) -> BackendConfig:
    if service is None:
        return BackendConfig.from_backend(with_pool(**pool))
    here = {"batch_endpoint": service.url, "storage": "az://recsys"}
    return BackendConfig.from_backend(here | {"pool": pool})


def writes(service: BatchService) -> list[str]:
    return [f"{method} {path}" for method, path, _ in service.requests if method != "GET"]


def test_a_pool_scales_by_formula_and_starts_with_the_environment() -> None:
    options = pool_options(config(), ARCHIVE).as_dict()

    assert options["enableAutoScale"] is True
    assert "targetDedicatedNodes" not in options
    assert options["taskSlotsPerNode"] == 1
    assert options["enableInterNodeCommunication"] is True
    start = options["startTask"]
    assert start["waitForSuccess"] is True
    assert start["maxTaskRetryCount"] == 2
    assert start["userIdentity"]["autoUser"] == {"scope": "pool", "elevationLevel": "admin"}
    assert not any(s["name"] == "RECSYS_VENV" for s in start["environmentSettings"])


def test_a_ready_environment_is_only_checked() -> None:
    start = pool_options(config(environment="/opt/recsys"), ARCHIVE).start_task

    assert start is not None
    assert ("RECSYS_VENV", "/opt/recsys") in {(s.name, s.value) for s in start.environment_settings}


def test_a_container_needs_no_start_task() -> None:
    options = pool_options(config(environment="/opt/recsys", container_image="shop/r:1"), ARCHIVE)

    machine = options.virtual_machine_configuration
    assert options.start_task is None
    assert machine and machine.container_configuration
    assert machine.container_configuration.container_image_names == ["shop/r:1"]


def test_a_pool_is_made_once(service: BatchService, client: BatchClient) -> None:
    ensure_pool(client, config(service), ARCHIVE)
    ensure_pool(client, config(service), ARCHIVE)

    assert writes(service)[0] == "POST /pools"
    assert writes(service).count("POST /pools") == 1
    assert "POST /pools/recsys/enableautoscale" not in writes(service)


def test_an_answer_that_was_lost_makes_no_second_pool(
    service: BatchService, client: BatchClient
) -> None:
    service.faults.add("POST", "/pools", "lost", 1)

    ensure_pool(client, config(service), ARCHIVE)

    assert [pool.id for pool in client.list_pools()] == ["recsys"]


def test_a_new_limit_and_a_new_environment_are_brought_up_to_date(
    service: BatchService, client: BatchClient
) -> None:
    ensure_pool(client, config(service), ARCHIVE)

    ensure_pool(client, config(service, max_nodes=5), OTHER)

    pool = client.get_pool("recsys")
    assert "most = 5;" in (pool.auto_scale_formula or "")
    assert pool.start_task and pool.start_task.resource_files
    assert pool.start_task.resource_files[0].http_url == OTHER.http_url


def test_a_link_in_the_start_task_is_renewed(service: BatchService, client: BatchClient) -> None:
    ensure_pool(client, config(service), ARCHIVE)

    ensure_pool(client, config(service), LATER)

    start = client.get_pool("recsys").start_task
    assert start and start.resource_files
    assert start.resource_files[0].http_url == LATER.http_url


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        ({"vm_size": "standard_d4ds_v5"}, "vm_size standard_d8ds_v5, not standard_d4ds_v5"),
        ({"image": {"sku": "minimal"}}, "image sku server, not minimal"),
    ],
)
def test_another_machine_is_refused(
    service: BatchService, client: BatchClient, pool: dict[str, object], told: str
) -> None:
    ensure_pool(client, config(service), ARCHIVE)

    with pytest.raises(PoolError, match=f"{told}.* another pool.id"):
        ensure_pool(client, config(service, **pool), ARCHIVE)


def test_a_wrong_key_is_named(service: BatchService) -> None:
    stranger = BatchClient(service.url, AzureNamedKeyCredential(service.account, "d3Jvbmc="))

    with pytest.raises(ClusterError, match="check BATCH_ACCOUNT_NAME"):
        ensure_pool(stranger, config(service), ARCHIVE)


def test_a_pool_with_an_identity_is_made_by_the_resource_manager(
    service: BatchService, client: BatchClient
) -> None:
    values = {"batch_endpoint": service.url, "storage": "az://recsys", "identity": IDENTITY}

    with pytest.raises(PoolError, match="--show pool"):
        ensure_pool(client, BackendConfig.from_backend(values), ARCHIVE)
    assert not list(client.list_pools())


def test_the_template_is_the_same_pool_with_its_identity() -> None:
    text = template(config(), pool_options(config(), ARCHIVE))
    body = resource(IDENTITY, pool_options(config(), ARCHIVE))

    assert "/resourceGroups/g/providers/Microsoft.Batch/batchAccounts/shop/pools/recsys" in text
    assert body["identity"]["userAssignedIdentities"] == {IDENTITY: {}}
    assert "most = 8;" in body["properties"]["scaleSettings"]["autoScale"]["formula"]
    assert body["properties"]["scaleSettings"]["autoScale"]["evaluationInterval"] == "PT5M"
    machine = body["properties"]["deploymentConfiguration"]["virtualMachineConfiguration"]
    assert machine["nodeAgentSkuId"] == "batch.node.ubuntu 24.04"


def test_a_template_without_identity_is_refused() -> None:
    one_node = BackendConfig.from_backend(GOOD | {"identity": None, "pool": {"workers": 0}})

    with pytest.raises(UsageError, match="made by the first run"):
        template(one_node, pool_options(one_node, ARCHIVE))
