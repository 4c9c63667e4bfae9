"""A dataset: interactions cut by time, ids indexed, blocks packed, all under one digest.

          validation cut        test cut            end
    ─────────────┼───────────────────┼───────────────┤
        train    │    validation     │     test
    A  ●   ●     │     ●             │   ●      ●        known before both cuts
    B            │     ●      ●      │   ●               new in validation: not known to train
    C            │                   │   ●               unknown at both cuts: cannot be served

Ids are numbered by the window that they first appear in, then by id. So everything a fit on train
may know is a prefix of the index, and no later id can slip in.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.errors import DataError
from recsys.kernels.blocks import Blocks

FORMAT = 1
TRAIN, VALIDATION, TEST = "train", "validation", "test"
WINDOWS = (TRAIN, VALIDATION, TEST)
DESCRIPTION_FILE = "dataset.json"


@dataclass(frozen=True)
class History:
    """What is known at one instant: packed events before a day.

    Attributes:
        customer_blocks: rows are customers, then guests' baskets; columns are items.
        item_blocks: rows are items; columns are customers, then guests' baskets.
        customers: customers known; rows 0 … customers - 1.
        all_customers: rows from here on are guests' baskets.
        items: items known; a prefix of the index.
        before: day (since 1970-01-01 UTC) of the cut; events from it on do not count.
        tables: folder with the tables `customers` and `items`, in index order.
    """

    customer_blocks: Blocks
    item_blocks: Blocks
    customers: int
    all_customers: int
    items: int
    before: int
    tables: str


@dataclass(frozen=True)
class Fold:
    """One question to a model: fit on the history, be judged on what came after.

    Attributes:
        name: `validation` or `test`, the window that judges.
        history: what a fit may see.
        truth: blocks of what each customer did in the window; rows are customers. Items that
            the history does not know have an index of at least `history.items`.
    """

    name: str
    history: History
    truth: Blocks


@dataclass(frozen=True)
class Dataset:
    """A dataset folder that has been read and checked.

    Attributes:
        path: the folder.
        digest: SHA-256 over interactions, items, customers and parameters.
        facts: the counts and cuts of dataset.json.
        validation: fit on train, judged on validation.
        test: fit on train and validation, judged on test.
    """

    path: Path
    digest: str
    facts: dict[str, Any]
    validation: Fold
    test: Fold


def load_dataset(path: str | Path) -> Dataset:
    """Read a folder that `prepare` wrote.

    Raises:
        DataError: the folder is not a dataset, or one of another format.
    """
    folder = Path(path)
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_text("utf-8"))
        if description["format"] != FORMAT:
            raise DataError(f"{folder} has another format: run prepare again.")
        return _dataset(folder, description)
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{folder} is not a dataset (no readable {DESCRIPTION_FILE}): "
            "give the folder that `prepare` wrote."
        ) from None


def _dataset(folder: Path, description: dict[str, Any]) -> Dataset:
    """Put the folds together from the description."""
    blocks = {
        name: Blocks.from_json(str(folder / "blocks" / name), values)
        for name, values in description["blocks"].items()
    }
    facts = description["facts"]

    def fold(name: str, fit: str) -> Fold:
        history = History(
            customer_blocks=blocks["customers"],
            item_blocks=blocks["items"],
            customers=facts[f"{fit}_customers"],
            all_customers=facts["validation_customers"],
            items=facts[f"{fit}_items"],
            before=facts[f"{name}_cut_day"],
            tables=str(folder),
        )
        return Fold(name, history, blocks[name])

    return Dataset(
        path=folder,
        digest=description["digest"],
        facts=facts,
        validation=fold(VALIDATION, TRAIN),
        test=fold(TEST, VALIDATION),
    )
