"""The request that makes a pool with an identity, which only Azure's resource manager can do."""

import json
from typing import Any
from urllib.parse import urlsplit

from azure.batch.models import BatchPoolCreateOptions

from deploy.azure_batch.config import BackendConfig
from deploy.cluster.formula import INTERVAL
from recsys.errors import UsageError

API_VERSION = "2024-07-01"


def template(config: BackendConfig, options: BatchPoolCreateOptions) -> str:
    """Return the `az rest` command and its body.

    The identity's subscription and resource group are taken for the Batch account's.

    Raises:
        UsageError: the configuration names no identity.
    """
    if config.identity is None:
        raise UsageError("identity is missing: without one the pool is made by the first run.")
    account = (urlsplit(config.batch_endpoint).hostname or "").partition(".")[0]
    group = config.identity.partition("/providers/")[0]
    url = (
        f"https://management.azure.com{group}/providers/Microsoft.Batch/batchAccounts/{account}"
        f"/pools/{options.id}?api-version={API_VERSION}"
    )
    body = json.dumps(resource(config.identity, options), indent=2)
    return f"az rest --method put --url '{url}' --body @pool.json\n\n# pool.json\n{body}"


def resource(identity: str, options: BatchPoolCreateOptions) -> dict[str, Any]:
    """Write the pool in the resource manager's form, which names some things differently."""
    pool = options.as_dict()
    machine = dict(pool["virtualMachineConfiguration"])
    machine["nodeAgentSkuId"] = machine.pop("nodeAgentSKUId")
    start = pool.get("startTask")
    if start:
        start["userIdentity"] = {"autoUser": {"scope": "Pool", "elevationLevel": "Admin"}}
    properties = {
        "vmSize": pool["vmSize"],
        "deploymentConfiguration": {"virtualMachineConfiguration": machine},
        "scaleSettings": {
            "autoScale": {
                "formula": pool["autoScaleFormula"],
                "evaluationInterval": f"PT{INTERVAL.seconds // 60}M",
            }
        },
        "interNodeCommunication": "Enabled",
        "taskSlotsPerNode": pool["taskSlotsPerNode"],
    }
    if start:
        properties["startTask"] = start
    identities = {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}}
    return {"identity": identities, "properties": properties}
