"""A dataset: interactions cut by time, ids indexed, blocks packed, all under one digest.

          validation cut    test_2 cut       test cut         end
    ─────────────┼────────────────┼───────────────┼─────────────┤
        train    │   validation   │    test_2     │    test
    A  ●   ●     │     ●          │  ●            │  ●      ●      known before every cut
    B            │     ●     ●    │               │  ●             not known to train
    C            │                │  ●     ●      │  ●             known before the test cut only
    D            │                │               │  ●             unknown at every cut: not served

There may be any number of test windows. `test` is the last of them, which decides; those before
it (`test_2`, `test_3`, …) tell how much chance is in it. Validation lies before them all.

Ids are numbered by the window that they first appear in, then by id. So everything that a fit
before any cut may know is a prefix of the index, and no later id can slip in.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from recsys.data.replace import content_of
from recsys.errors import DataError
from recsys.kernels.blocks import Blocks
from recsys.storage import Place, place_of, read_file

FORMAT = 3
TRAIN, VALIDATION, TEST = "train", "validation", "test"
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
        name: the window that judges: `validation`, `test`, or an earlier one such as `test_2`.
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
        path: the folder that `prepare` was told to write.
        folder: where its files lie; in a cloud the run in it that counts.
        digest: SHA-256 over interactions, items, customers and parameters.
        facts: the counts and cuts of dataset.json.
        validation: fit on train, judged on validation.
        test: fit on all that lies before the last window, judged on that window.
        earlier: the same for the test windows before it, newest first.
    """

    path: Place
    folder: Place
    digest: str
    facts: dict[str, Any]
    validation: Fold
    test: Fold
    earlier: tuple[Fold, ...]

    @property
    def rows(self) -> int:
        """Number of interactions in all windows, guests' too."""
        windows = (TRAIN, *(fold.name for fold in (self.validation, self.test, *self.earlier)))
        return sum(int(self.facts[f"{window}_rows"]) for window in windows)


def window_names(windows: int) -> tuple[str, ...]:
    """Name a dataset's windows in the order of time.

    Args:
        windows: number of test windows.
    """
    earlier = (f"{TEST}_{number}" for number in range(windows, 1, -1))
    return (TRAIN, VALIDATION, *earlier, TEST)


def load_dataset(path: str | Place) -> Dataset:
    """Read a folder that `prepare` wrote.

    Raises:
        DataError: the folder is not a dataset, or one of another format.
    """
    folder = place_of(path)
    try:
        folder = content_of(path)
        description = json.loads(read_file(folder / DESCRIPTION_FILE) or b"")
        if description["format"] != FORMAT:
            raise DataError(f"{folder} has another format: run prepare again.")
        return _dataset(place_of(path), folder, description)
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{folder} is not a dataset (no readable {DESCRIPTION_FILE}): "
            "give the folder that `prepare` wrote."
        ) from None


def _dataset(path: Place, folder: Place, description: dict[str, Any]) -> Dataset:
    """Put the folds together from the description."""
    blocks = {
        name: Blocks.from_json(str(folder / "blocks" / name), values)
        for name, values in description["blocks"].items()
    }
    facts = description["facts"]
    windows = window_names(description["parameters"]["windows"])
    *_, last_known, _ = windows

    def fold(known: str, name: str) -> Fold:
        history = History(
            customer_blocks=blocks["customers"],
            item_blocks=blocks["items"],
            customers=facts[f"{known}_customers"],
            all_customers=facts[f"{last_known}_customers"],
            items=facts[f"{known}_items"],
            before=facts[f"{name}_cut_day"],
            tables=str(folder),
        )
        return Fold(name, history, blocks[name])

    validation, *earlier, test = (fold(known, name) for known, name in pairwise(windows))
    return Dataset(
        path=path,
        folder=folder,
        digest=description["digest"],
        facts=facts,
        validation=validation,
        test=test,
        earlier=tuple(reversed(earlier)),
    )
