"""Campaigns for tests, published without a model."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.published import AUDIENCE, RECOMMENDATIONS, write_part
from recsys.storage import CommitLog, put, store_of


def publish(
    output: Path, people: int, items: int, control_share: float = 0.4, width: int = 10
) -> None:
    """Publish lists of five items to all but a tenth of the customers."""
    random = np.random.default_rng(3)
    ids = np.array([f"{i + 1:0{width}d}" for i in range(people)])[: int(0.9 * people)]
    control = random.random(len(ids)) < control_share
    who = np.repeat(ids[~control], 5)
    shown = [f"{i + 1:06d}" for i in random.integers(0, items, len(who))]
    tables = {
        AUDIENCE: {"customer_id": ids, "arm": np.where(control, "control", "treatment")},
        RECOMMENDATIONS: {"customer_id": who, "item_id": shown},
    }
    store, log = store_of(output, create=True), CommitLog(store_of(output, create=True))
    number = (head.number if (head := log.head()) else 0) + 1
    parts = [
        write_part(store, f"runs/{number}", name, "part-0.parquet", pa.table(columns))
        for name, columns in tables.items()
    ]
    manifest = json.dumps({"files": [vars(part) for part in parts]}).encode()
    put(store, f"runs/{number}/_manifest.json", manifest)
    digest = hashlib.sha256(manifest).hexdigest()
    key = f"runs/{number}/_manifest.json"
    log.append({"manifest": key, "manifest_sha256": digest}, number - 1)
