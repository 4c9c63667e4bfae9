"""Which customers a campaign leaves alone, so that its effect can be measured."""

import hashlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.strategy import HoldOut

TREATMENT, CONTROL = "treatment", "control"


def held_out(hold_out: HoldOut, ids: pa.Array) -> NDArray[np.bool_]:
    """Draw the control customers by a salted hash of their ids, the same in every run.

    A larger share keeps those who were drawn for a smaller one.

    Args:
        hold_out: share and salt.
        ids: string [n], customer ids.

    Returns:
        bool [n].
    """
    if hold_out.share == 0:
        return np.zeros(len(ids), dtype=bool)
    salt = hashlib.sha256(hold_out.salt.encode()).digest()
    digests = b"".join(
        hashlib.blake2b(customer.encode(), digest_size=8, key=salt).digest()
        for customer in ids.to_pylist()
    )
    drawn = np.frombuffer(digests, dtype="<u8").astype(np.float64) / 2.0**64
    return np.asarray(drawn < hold_out.share)
