"""The hold-out: stable, of the asked size, drawn by the salt."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.hold_out import held_out
from recsys.strategy import HoldOut

IDS = pa.array([f"{n:06d}" for n in range(20_000)])


def drawn(share: float, salt: str = "a") -> set[str]:
    return set(np.array(IDS.to_pylist())[held_out(HoldOut(share=share, salt=salt), IDS)])


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_about_the_asked_share_is_held_out(share: float) -> None:
    # Four standard deviations of a binomial.
    margin = 4 * np.sqrt(share * (1 - share) / len(IDS))
    assert len(drawn(share)) / len(IDS) == pytest.approx(share, abs=margin)


def test_nobody_is_held_out_without_a_share() -> None:
    assert drawn(0.0) == set()


def test_a_larger_share_keeps_those_of_a_smaller_one() -> None:
    assert drawn(0.1) < drawn(0.2)


def test_another_salt_draws_others_independently() -> None:
    both = drawn(0.2, "a") & drawn(0.2, "b")
    assert len(both) / len(IDS) == pytest.approx(0.04, abs=0.006)


def test_the_arm_depends_on_the_id_alone() -> None:
    some = pa.array(["000007", "019999", "000123"])
    rows = [IDS.to_pylist().index(customer) for customer in some.to_pylist()]
    hold_out = HoldOut(share=0.5, salt="x")
    assert held_out(hold_out, some).tolist() == held_out(hold_out, IDS)[rows].tolist()


def test_the_draw_never_changes() -> None:
    """A campaign's control group must be the same next month, with the next release, too."""
    first = pa.array([f"{n:05d}" for n in range(12)])
    assert np.flatnonzero(held_out(HoldOut(share=0.5, salt="s"), first)).tolist() == PINNED


PINNED = [1, 2, 3, 7, 8, 9, 10]
