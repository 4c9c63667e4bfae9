"""Arrays that tasks share: rows land where they belong, and a full disk is told at once."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import ModelError
from recsys.models import arrays


def test_rows_land_where_they_belong(tmp_path: Path) -> None:
    arrays.create(tmp_path, "factors", (5, 3), np.float32)
    arrays.write_rows(tmp_path, "factors", 3, np.full((2, 3), 2.5))
    arrays.write_rows(tmp_path, "factors", 0, np.ones((1, 3)))
    expected = np.zeros((5, 3), dtype=np.float32)
    expected[3:], expected[0] = 2.5, 1
    found = np.load(tmp_path / "factors.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_an_array_of_one_dimension(tmp_path: Path) -> None:
    arrays.create(tmp_path, "norms", (4,), np.float64)
    arrays.write_rows(tmp_path, "norms", 1, np.array([1.5, 2.5]))
    assert arrays.read(tmp_path, "norms").tolist() == [0, 1.5, 2.5, 0]


@pytest.mark.parametrize(("start", "shape"), [(4, (2, 3)), (0, (1, 2))])
def test_rows_that_have_no_place_are_refused(
    tmp_path: Path, start: int, shape: tuple[int, int]
) -> None:
    arrays.create(tmp_path, "factors", (5, 3), np.float32)
    with pytest.raises(ValueError, match="has no place"):
        arrays.write_rows(tmp_path, "factors", start, np.ones(shape))
    assert not np.load(tmp_path / "factors.npy").any()


def test_what_is_read_can_be_changed_without_touching_the_file(tmp_path: Path) -> None:
    arrays.write(tmp_path, "factors", np.zeros(3))
    arrays.read(tmp_path, "factors")[:] = 1
    assert not arrays.read(tmp_path, "factors").any()


def test_a_full_disk_is_told_before_the_fit_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ModelError, match=r"no room for factors .*No space left.*lower factors"):
        arrays.create(tmp_path, "factors", (5, 3), np.float32)
