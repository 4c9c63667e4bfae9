"""The state of a long fit on disk, so that the same fit goes on after a crash.

A checkpoint is one folder, exchanged as a whole: `state.json` and the arrays. It is removed once
the fit is done.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.data.replace import replaced
from recsys.errors import UsageError
from recsys.models import arrays
from recsys.progress import say

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


def save(folder: Path, iteration: int, steps: Steps, files: Mapping[str, Path]) -> None:
    """Keep a state; one that cannot be written is only said, because the fit can do without.

    Args:
        folder: of this fit's checkpoint alone.
        iteration: iterations done.
        steps: iteration → its metrics, so far.
        files: name → the `.npy` file that holds the array.
    """
    try:
        with replaced(folder, STATE) as fresh:
            for name, file in files.items():
                shutil.copyfile(file, fresh / f"{name}.npy")
            state = {"iteration": iteration, "steps": steps}
            (fresh / STATE).write_text(json.dumps(state), "utf-8")
    except (OSError, UsageError):
        say(f"  no checkpoint after iteration {iteration}: {folder} cannot be written")


def load(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> State | None:
    """Return the state that was kept; None where there is none, or not one of this fit.

    Args:
        folder: of this fit's checkpoint alone.
        shapes: name → shape that the array must have.
    """
    if not (folder / STATE).exists():
        return None
    try:
        state = json.loads((folder / STATE).read_text("utf-8"))
        found = {name: arrays.read(folder, name) for name in shapes}
        steps = {int(step): values for step, values in state["steps"].items()}
        whole = all(
            found[name].shape == shape and np.isfinite(found[name]).all()
            for name, shape in shapes.items()
        )
        if not whole:
            raise ValueError("its arrays are not those of this fit")
        return State(int(state["iteration"]), steps, found)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        say(f"  the checkpoint {folder} cannot be used ({error}): the fit starts anew")
        return None


def clear(folder: Path) -> None:
    """Remove the checkpoint of a fit that is done, and the folder of checkpoints if empty."""
    # With what a fit that was killed while it wrote has left.
    for left in (folder, *folder.parent.glob(f".{folder.name}.*")):
        shutil.rmtree(left, ignore_errors=True)
    if folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
