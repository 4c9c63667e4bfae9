"""One fit's alternations: which rows a task solves, and the Spark jobs that solve them.

The confidences of each part, which is what one task solves, are written once. Then each
half-iteration is one job: a task maps its part, its own rows' last factors and the other side's
factors into memory, solves, and writes its rows. Factors are named by the iterations that they
went through, so a task that runs again after a lost node starts from the same numbers, and one
that comes too late finds nothing to spoil.

A row's factors depend on its own confidences and on all factors of the other side, never on the
part that it lies in: they come out the same, bit for bit, whatever the number of parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.kernels import als as kernel
from recsys.kernels.blocks import Blocks
from recsys.models import arrays
from recsys.models.base import Floats, Hyperparameters
from recsys.session import Pool, run_tasks
from recsys.storage import Place

# 8 bytes an event while solving, some 60 while they are weighed.
EVENTS_A_PART = 16_000_000
# Solving so many takes a core about half a second, several times what starting a task takes.
EVENTS_WORTH_A_TASK = 4_000_000


@dataclass(frozen=True)
class Side:
    """One side of the matrix: the rows that a half-iteration solves.

    Attributes:
        name: of its factors' array.
        blocks: its packed rows.
        rows: rows that take part.
        width: columns that take part, the other side's rows.
        parts: numbers of the consecutive blocks that one task solves at once.
    """

    name: str
    blocks: Blocks
    rows: int
    width: int
    parts: tuple[range, ...]

    @classmethod
    def of(cls, name: str, blocks: Blocks, rows: int, width: int, tasks: int) -> "Side":
        """Share the blocks out, about evenly by events, over at most `tasks` tasks.

        More are made only where a part would hold more than EVENTS_A_PART.
        """
        numbers = blocks.covering(rows)
        ends = np.cumsum([blocks.events[n] for n in numbers])
        total = int(ends[-1]) if len(ends) else 0
        count = max(tasks, -(-total // EVENTS_A_PART))
        # The part of a block is where the middle of its events lies.
        middles = ends - np.diff(ends, prepend=0) / 2
        part = (middles * count / max(1, total)).astype(np.int64).clip(0, count - 1)
        starts = np.flatnonzero(np.diff(part, prepend=-1))
        stops = [*starts[1:], len(numbers)]
        parts = tuple(range(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
        return cls(name, blocks, rows, width, parts)

    def bounds(self, part: int) -> tuple[int, int]:
        """Return the first row of a part and the one after its last."""
        numbers = self.parts[part]
        start, stop = self.blocks.bounds(numbers[0])[0], self.blocks.bounds(numbers[-1])[1]
        return start, min(stop, self.rows)

    def file(self, done: int) -> str:
        """Name the array of the side's factors after so many iterations."""
        return f"{self.name}-{done}"


@dataclass(frozen=True)
class Fit:
    """What every job of one fit needs; small, because it travels with every task.

    Attributes:
        work: folder of confidences and factors.
        before: day of the cut.
        parameters: how events are weighed.
        alpha: confidence of a purchase of weight 1.
        regularization: λ.
        length: of a row's vector of factors.
    """

    work: Place
    before: int
    parameters: Hyperparameters
    alpha: float
    regularization: float
    length: int

    def factors(self, side: Side, done: int) -> Floats:
        """Map a side's factors into memory."""
        return arrays.read(self.work, side.file(done))

    def rows(self, side: Side, done: int, part: int) -> Floats:
        """Return the factors of one part's rows."""
        return arrays.read_rows(self.work, side.file(done), *side.bounds(part))

    def confidences(self, side: Side, part: int) -> sp.csr_matrix:
        """Map the confidences of a part into memory."""
        data, indices, indptr = (
            arrays.read(self.work, f"{side.name}-{part}-{name}")
            for name in ("data", "indices", "indptr")
        )
        shape = (len(indptr) - 1, side.width)
        return sp.csr_matrix((data, indices, indptr), shape=shape, copy=False)


def half(pool: Pool, fit: Fit, side: Side, other: Side, done: int, other_done: int) -> float:
    """Solve one side with the other held fixed, which is one iteration more for it.

    Args:
        pool: where the tasks run.
        fit: the fit.
        side: what is solved.
        other: what is held fixed.
        done: iterations that the side's last factors went through.
        other_done: iterations that the other side's factors went through.

    Returns:
        The loss of the factors that were read.

    Raises:
        ModelError: the fit has diverged.
    """

    def task(part: int) -> float:
        own, fixed = fit.rows(side, done, part), fit.factors(other, other_done)
        solved, loss = kernel.solve(fit.confidences(side, part), own, fixed, fit.regularization)
        if not np.isfinite(solved).all():
            return float("nan")
        arrays.write_rows(fit.work, side.file(done + 1), side.bounds(part)[0], solved)
        return loss

    shape = (side.rows, fit.length)
    arrays.recycle(fit.work, side.file(done - 1), side.file(done + 1), shape, np.float32)
    shares = run_tasks(pool, task, range(len(side.parts)))
    return _checked(sum(shares) + _norm(fit.factors(other, other_done), fit.regularization))


def loss_of(pool: Pool, fit: Fit, side: Side, other: Side, done: int) -> float:
    """Sum up the loss over the parts of one side, both sides' factors after `done` iterations."""

    def task(part: int) -> float:
        own, fixed = fit.rows(side, done, part), fit.factors(other, done)
        confidence = fit.confidences(side, part)
        return kernel.solve(confidence, own, fixed, fit.regularization, steps=0)[1]

    shares = run_tasks(pool, task, range(len(side.parts)))
    return _checked(sum(shares) + _norm(fit.factors(other, done), fit.regularization))


def _norm(factors: Floats, regularization: float) -> float:
    """Return λ Σ|y|² of one side, which no part's share of the loss holds."""
    return regularization * float(np.einsum("if,if->", factors, factors, dtype=np.float64))


def _checked(loss: float) -> float:
    """Return a loss; raises ModelError where the fit has diverged."""
    if not np.isfinite(loss):
        raise ModelError(
            "ALS diverged (its factors or its loss are not numbers): "
            "raise regularization or lower alpha."
        )
    return loss


def write_confidences(pool: Pool, fit: Fit, side: Side) -> None:
    """Weigh each part's events once: confidence = alpha · weight, as CSR files."""

    def weighed(number: int) -> sp.csr_matrix:
        block = side.blocks.read(number).take(side.rows).before(fit.before)
        return fit.parameters.matrix(block, fit.before, side.width)

    def task(part: int) -> None:
        matrix = sp.vstack([weighed(n) for n in side.parts[part]], format="csr")
        for name, values in _csr_arrays(matrix, fit.alpha):
            arrays.write(fit.work, f"{side.name}-{part}-{name}", values)

    run_tasks(pool, task, range(len(side.parts)))


def _csr_arrays(matrix: sp.csr_matrix, alpha: float) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield a CSR's arrays in the types that the kernel reads."""
    # What overflows is reported as a fit that diverged.
    with np.errstate(over="ignore"):
        data = matrix.data * np.float32(alpha)
    yield "data", data
    yield "indices", matrix.indices.astype(np.int32)
    yield "indptr", matrix.indptr.astype(np.int32)
