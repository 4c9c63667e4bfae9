"""Compile loops by Numba; imported only where a task is about to run one, for it takes a second."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def exact(function: F) -> F:
    """Compile at the first call, or load what was compiled on this machine before.

    Floats are rounded in the order that is written. 0 / 0 is NaN, as in NumPy.
    """
    return _compiled(function, fastmath=False)


def fast(function: F) -> F:
    """Compile as `exact`, but let sums be vectorised; what is no number stays so, to be noticed."""
    return _compiled(function, fastmath={"reassoc", "contract", "arcp", "nsz"})


def _compiled(function: F, fastmath: bool | set[str]) -> F:
    made: Any = numba.njit(cache=True, error_model="numpy", fastmath=fastmath)(function)
    return cast(F, made)
