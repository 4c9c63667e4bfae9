"""Arrays that tasks share: rows land where they belong, and a full disk is told at once."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import ModelError
from recsys.models import arrays
from recsys.storage import Place, make_folder


def test_rows_land_where_they_belong(shared: Place) -> None:
    make_folder(shared)
    arrays.create(shared, "factors", (5, 3), np.float32)
    arrays.write_rows(shared, "factors", 3, np.full((2, 3), 2.5))
    arrays.write_rows(shared, "factors", 0, np.ones((1, 3)))
    expected = np.zeros((5, 3), dtype=np.float32)
    expected[3:], expected[0] = 2.5, 1
    found = arrays.read(shared, "factors")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(arrays.read_rows(shared, "factors", 1, 4), expected[1:4])


def test_rows_that_are_written_again_are_read_anew(shared: Place) -> None:
    make_folder(shared)
    arrays.create(shared, "factors", (2, 2), np.float32)
    for value in (1, 2):
        arrays.write_rows(shared, "factors", 0, np.full((2, 2), value))
        assert (arrays.read(shared, "factors") == value).all()


def test_an_array_of_one_dimension(shared: Place) -> None:
    make_folder(shared)
    arrays.create(shared, "norms", (4,), np.float64)
    arrays.write_rows(shared, "norms", 1, np.array([1.5, 2.5]))
    assert arrays.read(shared, "norms").tolist() == [0, 1.5, 2.5, 0]


def test_arrays_are_named_moved_copied_and_removed(shared: Place) -> None:
    make_folder(shared / "other")
    arrays.write(shared, "whole", np.arange(3))
    arrays.create(shared, "filled", (2, 1), np.int64)
    arrays.write_rows(shared, "filled", 1, np.array([[7]]))
    assert arrays.names_in(shared) == ["filled", "whole"]
    for name in ("filled", "whole"):
        arrays.copy_array(shared, name, shared / "other", name)
        arrays.move_array(shared, name, shared, f"{name}-moved")
    assert arrays.read(shared / "other", "filled").tolist() == [[0], [7]]
    assert {n: a.tolist() for n, a in arrays.read_all(shared).items()} == {
        "filled-moved": [[0], [7]],
        "whole-moved": [0, 1, 2],
    }
    arrays.remove(shared, "filled-moved")
    arrays.remove(shared, "filled-moved")
    assert arrays.names_in(shared) == ["whole-moved"]


def test_an_array_takes_the_room_of_another(shared: Place) -> None:
    make_folder(shared)
    arrays.create(shared, "old", (2, 1), np.float32)
    arrays.recycle(shared, "old", "new", (2, 1), np.float32)
    arrays.recycle(shared, "none", "first", (2, 1), np.float32)
    assert arrays.names_in(shared) == ["first", "new"]
    arrays.write_rows(shared, "new", 0, np.ones((2, 1)))
    assert arrays.read(shared, "new").tolist() == [[1], [1]]


@pytest.mark.parametrize(("start", "shape"), [(4, (2, 3)), (0, (1, 2))])
def test_rows_that_have_no_place_are_refused(
    shared: Place, start: int, shape: tuple[int, int]
) -> None:
    make_folder(shared)
    arrays.create(shared, "factors", (5, 3), np.float32)
    with pytest.raises(ValueError, match="has no place"):
        arrays.write_rows(shared, "factors", start, np.ones(shape))
    assert not arrays.read(shared, "factors").any()


def test_what_is_read_can_be_changed_without_touching_the_file(shared: Place) -> None:
    make_folder(shared)
    arrays.write(shared, "factors", np.zeros(3))
    arrays.read(shared, "factors")[:] = 1
    assert not arrays.read(shared, "factors").any()


def test_a_full_disk_is_told_before_the_fit_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ModelError, match=r"no room for factors .*No space left.*lower factors"):
        arrays.create(tmp_path, "factors", (5, 3), np.float32)
