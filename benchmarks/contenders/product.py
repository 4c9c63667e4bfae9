"""The hardware's limit: NumPy multiplies all factors and throws the scores away."""

from pathlib import Path

import numpy as np

from benchmarks.contenders.child import Clock, Job, run

SCORES_A_PIECE = 32_000_000


def score(job: Job, clock: Clock) -> None:
    """Score every item for every customer, without ranking."""
    customers, items = (
        np.load(Path(job.fitted) / f"{side}_factors.npy") for side in ("customer", "item")
    )
    size = max(1, SCORES_A_PIECE // len(items))
    scores = np.empty((size, len(items)), dtype=np.float32)
    with clock.phase("score"):
        for start in range(0, len(customers), size):
            piece = customers[start : start + size]
            np.matmul(piece, items.T, out=scores[: len(piece)])


if __name__ == "__main__":
    run({"score": score})
