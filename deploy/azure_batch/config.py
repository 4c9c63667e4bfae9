"""The backend's configuration: which pool, which storage, how many nodes, at what cost at most.

It holds no credentials. Those come from the environment alone: `BATCH_ACCOUNT_NAME` and
`BATCH_ACCESS_KEY`, or whatever DefaultAzureCredential finds (`az login`, a managed identity).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field

from recsys.config import Config
from recsys.errors import UsageError

INSTALL = "install"
SECRET = re.compile(r"AccountKey=|SharedAccessSignature=|[?&]sig=", re.IGNORECASE)
# What MLflow adds to a backend's configuration; one of its keys is spelled in lower case.
MLFLOW_KEYS = {"build_image", "docker_auth"}


class Image(Config):
    """The machine's operating system."""

    publisher: str = Field("canonical", description="who publishes the image")
    offer: str = Field("ubuntu-24_04-lts", description="the image's offer")
    sku: str = Field("server", description="the image's SKU")
    version: str = Field("latest", description="the image's version")
    node_agent: str = Field(
        "batch.node.ubuntu 24.04", description="Batch's agent that fits the image"
    )


class Price(Config):
    """What a node costs an hour, in the currency of `max_cost`."""

    dedicated: float = Field(gt=0, description="a dedicated node")
    spot: float = Field(gt=0, description="a Spot node")


class Pool(Config):
    """The pool that jobs run on; it grows with the tasks that wait and goes to zero."""

    id: str = Field("recsys", pattern=r"^[\w-]{1,64}$", description="the pool's id")
    vm_size: str = Field("standard_d8ds_v5", description="size of every node")
    image: Image = Field(Image(), description="operating system of every node")
    environment: str = Field(
        INSTALL,
        description="`install`: a node's start task installs conda.yaml and Java; else the path "
        "of a ready virtual environment on the image",
    )
    container_image: str | None = Field(
        None, description="container to run tasks in; `environment` is then a path inside it"
    )
    driver: Literal["dedicated", "spot"] = Field(
        "dedicated", description="node of the driver: dedicated for long jobs, spot for short ones"
    )
    workers: int = Field(
        2,
        ge=0,
        description="nodes of a job beside the driver's; 0: the driver's node alone, local[*]",
    )
    low_priority: bool = Field(True, description="true: workers are Spot nodes; false: dedicated")
    max_drivers: int = Field(
        2, ge=1, description="dedicated driver nodes at most: as many jobs run at once"
    )
    max_nodes: int = Field(8, ge=1, description="nodes of the pool at most, over all its jobs")

    @property
    def nodes(self) -> int:
        """A job's nodes: the driver's and the workers'."""
        return 1 + self.workers

    @property
    def dedicated(self) -> int:
        """How many of them are dedicated."""
        return int(self.driver == "dedicated") + (0 if self.low_priority else self.workers)


class BackendConfig(Config):
    """What `--backend-config` holds."""

    batch_endpoint: str = Field(
        pattern=r"^https?://\S+$",
        description="the Batch account, https://ACCOUNT.REGION.batch.azure.com",
    )
    storage: str = Field(
        description="folder or container in Blob storage for code, shared work and alerts, "
        "https://ACCOUNT.blob.core.windows.net/CONTAINER or az://CONTAINER"
    )
    pool: Pool = Field(Pool(), description="the pool that jobs run on")
    max_hours: float = Field(4, gt=0, le=168, description="a job ends after so many hours")
    price_per_node_hour: Price | None = Field(
        None, description="prices of this region and size; needed for max_cost"
    )
    max_cost: float | None = Field(
        None, gt=0, description="a job whose nodes could cost more is refused"
    )
    identity: str | None = Field(
        None,
        pattern=r"^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/"
        r"Microsoft\.ManagedIdentity/userAssignedIdentities/[^/]+$",
        description="resource id of the pool's user-assigned identity, by which nodes get at "
        "Blob storage and Batch",
    )
    client_id: str | None = Field(
        None, description="client id of that identity, given to nodes as AZURE_CLIENT_ID"
    )
    executor_memory: str | None = Field(
        None, pattern=r"^\d+[mg]$", description="heap of an executor, such as 8g; none: Spark's 1g"
    )
    driver_memory: str | None = Field(
        None, pattern=r"^\d+[mg]$", description="heap of the driver, such as 8g; none: 3g"
    )
    variables: dict[str, str] = Field(
        {}, description="more environment variables of the tasks; no secrets: anyone may read them"
    )
    capacity_minutes: float = Field(
        30, gt=0, description="a job that has no usable node for so long is given up"
    )
    poll_seconds: float = Field(5, gt=0, description="how often to look at a job")
    follow: bool = Field(
        True, description="false: `mlflow run` returns once the job is there, and nobody watches it"
    )
    dry_run: bool = Field(False, description="true: print the requests and submit nothing")

    @classmethod
    def from_backend(cls, values: Mapping[str, Any]) -> Self:
        """Read the mapping that MLflow hands to a backend, without what MLflow added to it.

        Raises:
            UsageError: a key is unknown, a value is wrong, a secret is in it, or the nodes could
                cost more than `max_cost`.
        """
        own = {k: v for k, v in values.items() if not k.isupper() and k not in MLFLOW_KEYS}
        config = cls.checked(own, "backend-config")
        config.check()
        return config

    @classmethod
    def from_file(cls, path: str) -> Self:
        """Read a JSON file; raises UsageError where it is missing or wrong."""
        try:
            values = json.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read as JSON ({error}).") from None
        if not isinstance(values, dict):
            raise UsageError(f"{path} must be a JSON object of names to values.")
        return cls.from_backend(values)

    def check(self) -> None:
        """Raise UsageError where fields do not fit together."""
        if SECRET.search(self.model_dump_json()):
            raise UsageError(
                "backend-config holds a key or a signature: take it out and set it in the "
                "environment (AZURE_STORAGE_CONNECTION_STRING)."
            )
        pool = self.pool
        if pool.nodes > pool.max_nodes:
            raise UsageError(
                f"pool.workers={pool.workers} and the driver are {pool.nodes} nodes, but the pool "
                f"has at most {pool.max_nodes}: raise pool.max_nodes or lower pool.workers."
            )
        if pool.workers and pool.driver == "spot" and not pool.low_priority:
            raise UsageError(
                "pool.driver=spot with dedicated workers makes the driver the first to go: set "
                "pool.driver=dedicated, or pool.low_priority=true."
            )
        if pool.workers and not self.identity and not self.on_this_machine:
            raise UsageError(
                "identity is missing: nodes read Blob storage and add workers to a job as the "
                "pool's user-assigned identity. Give its resource id (and client_id)."
            )
        if pool.container_image and pool.environment == INSTALL:
            raise UsageError(
                "pool.container_image needs pool.environment: the path of the virtual "
                "environment inside the container."
            )

    @property
    def on_this_machine(self) -> bool:
        """Whether the service is one of this machine, whose nodes are its processes."""
        return loopback(self.batch_endpoint)


def loopback(url: str) -> bool:
    """Tell whether a URL leads to this very machine."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
