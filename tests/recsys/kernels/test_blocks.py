"""Packed blocks: what is read back is what was packed, summed per row, column and day."""

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import DataError
from recsys.kernels import blocks as module
from recsys.kernels.blocks import Block, Blocks, block_file, block_size, pack
from recsys.kernels.events import order_events

Line = tuple[int, int, int, float, float]
Key = tuple[int, int, int]
ROWS = 7

# Quarters add up exactly, whatever the order.
AMOUNTS = st.integers(1, 40).map(lambda n: n / 4)
LINES = st.lists(
    st.tuples(st.integers(0, ROWS - 1), st.integers(0, 4), st.integers(-2, 3), AMOUNTS, AMOUNTS),
    max_size=40,
)


def table_of(lines: list[Line]) -> pa.Table:
    columns = list(zip(*lines, strict=True)) or [()] * 5
    types = (pa.int32(), pa.int32(), pa.int32(), pa.float64(), pa.float64())
    names = ("row", "column", "day", "quantity", "revenue")
    arrays = [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
    return pa.table(dict(zip(names, arrays, strict=True)))


def packed(folder: str, lines: list[Line], size: int, rows: int = ROWS) -> Blocks:
    events = []
    for number, start in enumerate(range(0, rows, size)):
        stop = min(rows, start + size)
        inside = [line for line in lines if start <= line[0] < stop]
        events.append(pack(folder, number, start, stop, table_of(inside)) if inside else 0)
    return Blocks(folder, rows, size, tuple(events))


def summed(lines: list[Line]) -> dict[Key, tuple[float, float]]:
    sums: dict[Key, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row, column, day, quantity, revenue in lines:
        sums[row, column, day][0] += quantity
        sums[row, column, day][1] += revenue
    return {key: (values[0], values[1]) for key, values in sums.items()}


def events_of(block: Block) -> dict[Key, tuple[float, float]]:
    found = {}
    for row in range(block.rows):
        for event in range(block.indptr[row], block.indptr[row + 1]):
            key = (block.start + row, int(block.columns[event]), int(block.days[event]))
            assert key not in found
            found[key] = (float(block.quantities[event]), float(block.revenue[event]))
    return found


def all_events(blocks: Blocks) -> dict[Key, tuple[float, float]]:
    found: dict[Key, tuple[float, float]] = {}
    for block in blocks:
        found |= events_of(block)
    return found


@settings(max_examples=25, deadline=None)
@given(LINES, st.integers(1, ROWS))
def test_round_trip_equals_a_dictionary_of_sums(lines: list[Line], size: int) -> None:
    with TemporaryDirectory() as folder:
        blocks = packed(folder, lines, size)
        assert all_events(blocks) == summed(lines)
        assert sum(blocks.events) == len(summed(lines))
        assert [block.start for block in blocks] == [blocks.bounds(n)[0] for n in blocks.numbers]
        assert sum(block.rows for block in blocks) == ROWS
        for block in blocks:
            for row in range(block.rows):
                columns = block.columns[block.indptr[row] : block.indptr[row + 1]]
                assert (np.diff(columns) >= 0).all()


@settings(max_examples=25, deadline=None)
@given(LINES, st.integers(-3, 4), st.integers(0, ROWS + 2))
def test_before_and_take_leave_out_days_and_rows(lines: list[Line], day: int, stop: int) -> None:
    with TemporaryDirectory() as folder:
        found: dict[Key, tuple[float, float]] = {}
        rows = 0
        for block in packed(folder, lines, 3):
            part = block.take(stop).before(day)
            rows += part.rows
            found |= events_of(part)
            assert events_of(block.before(day).take(stop)) == events_of(part)
        expected = {k: v for k, v in summed(lines).items() if k[0] < stop and k[2] < day}
        assert found == expected
        assert rows == min(ROWS, stop)


@settings(max_examples=25, deadline=None)
@given(LINES, st.integers(1, 6))
def test_matrix_sums_a_cells_days_and_leaves_columns_beyond_out(
    lines: list[Line], width: int
) -> None:
    with TemporaryDirectory() as folder:
        for block in packed(folder, lines, 4):
            matrix = block.matrix(block.quantities, width)
            expected = np.zeros((block.rows, width))
            for (row, column, _), (quantity, _) in events_of(block).items():
                if column < width:
                    expected[row - block.start, column] += quantity
            assert matrix.dtype == np.float32
            np.testing.assert_array_equal(matrix.toarray(), expected)
            assert matrix.nnz == (expected > 0).sum()
            assert matrix.has_canonical_format


@settings(max_examples=25, deadline=None)
@given(LINES, st.data())
def test_where_keeps_the_marked_events(lines: list[Line], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        block = packed(folder, lines, ROWS).read(0)
        size = len(block.columns)
        keep = np.array(
            data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=bool
        )
        kept = list(events_of(block).items())
        expected = dict(event for event, k in zip(kept, keep, strict=True) if k)
        assert events_of(block.where(keep)) == expected


def test_the_order_of_lines_does_not_change_the_file(tmp_path: Path) -> None:
    lines = [(0, 1, 5, 0.1, 0.7), (0, 1, 5, 0.2, 0.6), (0, 1, 5, 1e7, 0.3), (1, 0, 2, 0.3, 0.3)]
    for name, given_lines in (("a", lines), ("b", lines[::-1])):
        (tmp_path / name).mkdir()
        pack(str(tmp_path / name), 0, 0, 2, table_of(given_lines))
    first, second = (block_file(str(tmp_path / n), 0).read_bytes() for n in "ab")
    assert first == second


def test_a_block_without_events_needs_no_file(tmp_path: Path) -> None:
    block = Blocks(str(tmp_path), 5, 3, (0, 0)).read(1)
    assert (block.start, block.rows, len(block.columns)) == (3, 2, 0)
    assert block.matrix(block.quantities, 4).toarray().tolist() == [[0] * 4] * 2


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"block-00000\.arrow cannot be read .*run prepare again"):
        Blocks(str(tmp_path), 3, 3, (2,)).read(0)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    blocks = packed(str(tmp_path), [(0, 0, 0, 1, 1)], 3, 3)
    block_file(str(tmp_path), 0).write_bytes(b"no arrow file")
    with pytest.raises(DataError, match="run prepare again"):
        blocks.read(0)


@pytest.mark.parametrize("lines", [[(0, 0, 0, 1.0, 1.0)], [(0, i, 0, 1.0, 1.0) for i in range(3)]])
def test_a_file_with_another_number_of_events_is_refused(tmp_path: Path, lines: list[Line]) -> None:
    packed(str(tmp_path), lines, 3, 3)
    with pytest.raises(DataError, match="does not belong to this dataset"):
        Blocks(str(tmp_path), 3, 3, (2,)).read(0)


def test_a_file_with_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    packed(str(tmp_path), [(0, 0, 0, 1, 1)], 3, 3)
    with pytest.raises(DataError, match="does not belong to this dataset"):
        Blocks(str(tmp_path), 2, 2, (1,)).read(0)


def test_another_arrow_file_is_refused(tmp_path: Path) -> None:
    table = pa.table({"something": [1]})
    with pa.ipc.new_file(str(block_file(str(tmp_path), 0)), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match="run prepare again"):
        Blocks(str(tmp_path), 3, 3, (1,)).read(0)


def test_covering_names_the_blocks_that_hold_the_first_rows() -> None:
    blocks = Blocks("", 10, 4, (1, 1, 1))
    assert [blocks.covering(stop) for stop in (0, 1, 4, 5, 10)] == [
        [],
        [0],
        [0],
        [0, 1],
        [0, 1, 2],
    ]
    assert [blocks.bounds(n) for n in blocks.numbers] == [(0, 4), (4, 8), (8, 10)]


def test_the_description_round_trips() -> None:
    blocks = Blocks("somewhere", 10, 4, (1, 0, 2))
    assert Blocks.from_json("somewhere", blocks.to_json()) == blocks


@settings(max_examples=50, deadline=None)
@given(LINES.filter(bool), st.booleans())
def test_events_are_ordered_as_tuples_are_also_where_no_int64_could_hold_the_key(
    lines: list[Line], huge: bool
) -> None:
    # Far apart, so that row, column and day together take more than 64 bits.
    factor = 2**29 if huge else 1
    far = [
        (row * factor, column * factor, day * factor, *rest) for row, column, day, *rest in lines
    ]
    columns = [np.array(values) for values in zip(*far, strict=True)]
    row, column, day = (values.astype(np.int64) for values in columns[:3])
    order, starts = order_events(row, column, day, columns[3:])
    ordered = [far[place] for place in order]
    assert ordered == sorted(far)
    events = [line[:3] for line in ordered]
    assert starts.tolist() == [n for n, event in enumerate(events) if event not in events[:n]]


def test_block_size_has_at_least_the_fewest_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST_BLOCKS", 4)
    monkeypatch.setattr(module, "EVENTS_A_BLOCK", 100)
    assert block_size(rows=80, events=10) == 20
    assert block_size(rows=80, events=400) == 20
    assert block_size(rows=80, events=401) == 16
    assert block_size(rows=3, events=0) == 1
    assert block_size(rows=0, events=0) == 1


def test_block_size_grows_with_very_many_rows_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST_BLOCKS", 4)
    monkeypatch.setattr(module, "MOST_BLOCKS", 50)
    # A few customers among a crowd of guests would cut these into as many blocks.
    assert block_size(rows=8, events=10, behind=92) == 2
    assert block_size(rows=8, events=10, behind=993) == 21
    assert block_size(rows=1, events=10, behind=0) == 1
