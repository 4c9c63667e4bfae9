"""The state of a long fit on disk, so that the same fit goes on after a crash.

A checkpoint is one folder, exchanged as a whole: `state.json` and the arrays. It is removed once
the fit is done.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.data.replace import current, forget, replaced
from recsys.errors import DataError, PublishError, UsageError
from recsys.models import arrays
from recsys.progress import say
from recsys.storage import Place, read_file, write_file

STATE = "state.json"
Steps = dict[int, dict[str, float]]


@dataclass(frozen=True)
class State:
    """Where a fit stood.

    Attributes:
        iteration: iterations done.
        steps: iteration → its metrics, so far.
        arrays: name → what the next iteration starts from.
    """

    iteration: int
    steps: Steps
    arrays: dict[str, NDArray[Any]]


def save(
    folder: Place, iteration: int, steps: Steps, work: Place, names: Mapping[str, str]
) -> None:
    """Keep a state; one that cannot be written is only said, because the fit can do without.

    Args:
        folder: of this fit's checkpoint alone.
        iteration: iterations done.
        steps: iteration → its metrics, so far.
        work: folder of the fit's arrays.
        names: the array's name in the checkpoint → its name in `work`.
    """
    try:
        with replaced(folder, STATE) as fresh:
            for name, now in names.items():
                arrays.copy_array(work, now, fresh, name)
            state = {"iteration": iteration, "steps": steps}
            write_file(fresh / STATE, json.dumps(state).encode())
    except (OSError, UsageError, DataError, PublishError):
        say(f"  no checkpoint after iteration {iteration}: {folder} cannot be written")


def load(kept: Place, shapes: Mapping[str, tuple[int, ...]]) -> State | None:
    """Return the state that was kept; None where there is none, or not one of this fit.

    Args:
        kept: folder of this fit's checkpoint alone.
        shapes: name → shape that the array must have.
    """
    folder = current(kept)
    told = read_file(folder / STATE) if folder else None
    if folder is None or told is None:
        return None
    try:
        state = json.loads(told)
        found = {name: arrays.read(folder, name) for name in shapes}
        steps = {int(step): values for step, values in state["steps"].items()}
        whole = all(
            found[name].shape == shape and np.isfinite(found[name]).all()
            for name, shape in shapes.items()
        )
        if not whole:
            raise ValueError("its arrays are not those of this fit")
        return State(int(state["iteration"]), steps, found)
    except (DataError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        say(f"  the checkpoint {kept} cannot be used ({error}): the fit starts anew")
        return None


def clear(folder: Place) -> None:
    """Remove the checkpoint of a fit that is done, and the folder of checkpoints if empty."""
    forget(folder)
    if isinstance(folder.parent, Path) and folder.parent.is_dir():
        with suppress(OSError):  # other fits keep theirs there
            folder.parent.rmdir()
