"""The pool: what it is made of, and making sure that it is there."""

from datetime import timedelta
from urllib.parse import urlsplit

from azure.batch import BatchClient
from azure.batch.models import (
    AutoUserScope,
    AutoUserSpecification,
    BatchContainerConfiguration,
    BatchPool,
    BatchPoolCreateOptions,
    BatchPoolEnableAutoScaleOptions,
    BatchPoolUpdateOptions,
    BatchStartTask,
    BatchVmImageReference,
    ElevationLevel,
    EnvironmentSetting,
    ResourceFile,
    UserIdentity,
    VirtualMachineConfiguration,
)
from azure.core.exceptions import AzureError, ResourceNotFoundError

from deploy.azure_batch.client import create_once, explained
from deploy.azure_batch.config import INSTALL, BackendConfig
from deploy.cluster.formula import INTERVAL, formula
from recsys.errors import ClusterError, PoolError
from recsys.progress import say

ENVIRONMENT_ARCHIVE = "environment.tar.gz"
START = (
    f"/bin/bash -c 'tar -xzf {ENVIRONMENT_ARCHIVE} deploy/cluster/start_task.sh "
    "&& exec bash deploy/cluster/start_task.sh'"
)
RESIZE_TIMEOUT = timedelta(minutes=15)


def pool_options(config: BackendConfig, environment: ResourceFile) -> BatchPoolCreateOptions:
    """Describe the pool.

    Args:
        config: the backend's configuration.
        environment: archive of what installs the environment.
    """
    pool = config.pool
    image = pool.image
    containers = None
    if pool.container_image:
        containers = BatchContainerConfiguration(
            type="dockerCompatible", container_image_names=[pool.container_image]
        )
    return BatchPoolCreateOptions(
        id=pool.id,
        vm_size=pool.vm_size,
        virtual_machine_configuration=VirtualMachineConfiguration(
            image_reference=BatchVmImageReference(
                publisher=image.publisher, offer=image.offer, sku=image.sku, version=image.version
            ),
            node_agent_sku_id=image.node_agent,
            container_configuration=containers,
        ),
        enable_auto_scale=True,
        auto_scale_formula=formula(pool),
        auto_scale_evaluation_interval=INTERVAL,
        enable_inter_node_communication=True,
        # Spark divides a node's cores itself: one task of Batch has the whole node.
        task_slots_per_node=1,
        resize_timeout=RESIZE_TIMEOUT,
        start_task=start_task(config, environment),
    )


def start_task(config: BackendConfig, environment: ResourceFile) -> BatchStartTask | None:
    """Describe what a node does before its first task; a container needs nothing installed."""
    if config.pool.container_image:
        return None
    settings = [EnvironmentSetting(name="LANG", value="C.UTF-8")]
    if config.pool.environment != INSTALL:
        settings.append(EnvironmentSetting(name="RECSYS_VENV", value=config.pool.environment))
    return BatchStartTask(
        command_line=START,
        resource_files=[environment],
        environment_settings=settings,
        user_identity=UserIdentity(
            auto_user=AutoUserSpecification(
                scope=AutoUserScope.POOL, elevation_level=ElevationLevel.ADMIN
            )
        ),
        max_task_retry_count=2,
        wait_for_success=True,
    )


def ensure_pool(client: BatchClient, config: BackendConfig, environment: ResourceFile) -> None:
    """Make the pool, or bring the one that is there up to date; safe to call from two places.

    Raises:
        PoolError: a pool of that id is of another size or image, or it is being deleted, or it
            has an identity and so cannot be made from here.
        ClusterError: the service refused or does not answer.
    """
    wanted = pool_options(config, environment)
    try:
        found = _found(client, wanted.id)
        if found is None and config.identity:
            raise PoolError(_made_elsewhere(config))
        if found is None:
            if create_once(lambda: client.create_pool(wanted)):
                say(f"  pool {wanted.id} made: {wanted.vm_size}, at most {config.pool.max_nodes}")
                return
            found = client.get_pool(wanted.id)
        _check_same(wanted, found)
        _update(client, wanted, found)
    except AzureError as error:
        raise ClusterError(explained(error)) from error


def _found(client: BatchClient, pool_id: str) -> BatchPool | None:
    try:
        return client.get_pool(pool_id)
    except ResourceNotFoundError:
        return None


def _made_elsewhere(config: BackendConfig) -> str:
    """Say how to make a pool that has an identity, which Batch's own API cannot do."""
    return (
        f"There is no pool {config.pool.id}, and a pool with an identity is made through Azure's "
        "resource manager: run `python -m deploy.azure_batch --show pool`, which prints the "
        "request and the `az rest` command for it, once."
    )


def _check_same(wanted: BatchPoolCreateOptions, found: BatchPool) -> None:
    """Raise PoolError where the pool differs in what cannot be changed."""
    if found.state == "deleting":
        raise PoolError(f"Pool {found.id} is being deleted: wait, or name another pool.id.")
    differences = []
    if (found.vm_size or "").lower() != wanted.vm_size.lower():
        differences.append(f"vm_size {found.vm_size}, not {wanted.vm_size}")
    have, want = found.virtual_machine_configuration, wanted.virtual_machine_configuration
    if have and want:
        for name in ("publisher", "offer", "sku"):
            old, new = (getattr(c.image_reference, name) for c in (have, want))
            if (old or "").lower() != (new or "").lower():
                differences.append(f"image {name} {old}, not {new}")
    if (found.task_slots_per_node or 1) != 1:
        differences.append(f"{found.task_slots_per_node} task slots a node, not 1")
    if differences:
        raise PoolError(
            f"Pool {found.id} has {'; '.join(differences)}: correct the configuration, name "
            "another pool.id, or delete the pool."
        )


def _update(client: BatchClient, wanted: BatchPoolCreateOptions, found: BatchPool) -> None:
    """Change formula and start task where they differ; nodes that run keep their environment."""
    formula_differs = found.auto_scale_formula != wanted.auto_scale_formula
    if formula_differs or not found.enable_auto_scale:
        options = BatchPoolEnableAutoScaleOptions(
            auto_scale_formula=wanted.auto_scale_formula,
            auto_scale_evaluation_interval=wanted.auto_scale_evaluation_interval,
        )
        client.enable_pool_auto_scale(wanted.id, options)
        say(f"  pool {wanted.id}: formula brought up to date")
    if _start(found.start_task) != _start(wanted.start_task):
        client.update_pool(wanted.id, BatchPoolUpdateOptions(start_task=wanted.start_task))
        say(f"  pool {wanted.id}: start task brought up to date, for nodes to come")
    elif wanted.start_task and not _by_identity(wanted.start_task):
        # The link in it ends, and a node may be replaced at any time.
        client.update_pool(wanted.id, BatchPoolUpdateOptions(start_task=wanted.start_task))


def _start(task: BatchStartTask | None) -> tuple[object, ...] | None:
    """Return what makes two start tasks differ; a link's signature does not."""
    if task is None:
        return None
    files = [
        urlsplit(f.http_url or "")._replace(query="").geturl() for f in task.resource_files or []
    ]
    settings = sorted((s.name, s.value) for s in task.environment_settings or [])
    return (task.command_line, tuple(files), tuple(settings))


def _by_identity(task: BatchStartTask) -> bool:
    return all(file.identity_reference for file in task.resource_files or [])
