"""A path, a folder or a glob stands for the same files on a disk and in a cloud."""

import pytest

from recsys.data.globs import files_of
from recsys.data.replace import replaced
from recsys.errors import DataError, UsageError
from recsys.storage import CommitLog, Place, make_folder, read_file, store_of, write_file


def put(folder: Place, *names: str, text: str = "x") -> None:
    """Write files that hold some text into a folder and into folders of it."""
    for name in names:
        make_folder((folder / name).parent)
        write_file(folder / name, text.encode())


def replace(folder: Place, *names: str, text: str = "x") -> None:
    """Put a folder of such files in a folder's place, as `simulate` does."""
    with replaced(folder, names[0]) as fresh:
        put(fresh, *names, text=text)


def found(source: str) -> list[tuple[str, str]]:
    """Return the files' names and contents."""
    return [(file.name, (read_file(file) or b"").decode()) for file in files_of(source)]


def test_a_folder_that_was_written_as_a_whole_stands_for_its_content(shared: Place) -> None:
    for text in ("former", "newest"):
        replace(shared / "raw", "day-1.csv", "truth/items.parquet", text=text)
    for source in ("raw", "raw/*.csv", "raw/day-[0-9].csv"):
        assert found(f"{shared}/{source}") == [("day-1.csv", "newest")]


def test_a_glob_of_folders_stands_for_the_content_of_each(shared: Place) -> None:
    for text in ("former", "newest"):
        replace(shared / "landing" / "first", "day-1.csv", "truth/day-0.csv", text=text)
    replace(shared / "landing" / "then", "day-2.csv", "truth/customers.parquet")
    put(shared / "landing" / "till", "day-3.csv", "other.csv")
    CommitLog(store_of(shared / "landing" / "tables", create=True)).append({"manifest": "m"}, 0)
    expected = [("day-1.csv", "newest"), ("day-2.csv", "x"), ("day-3.csv", "x")]
    assert sorted(found(f"{shared}/landing/*/day-*.csv")) == expected
    assert sorted(found(f"{shared}/*/t*/day-*.csv")) == expected[1:]


def test_a_folder_may_follow_a_glob_of_folders(shared: Place) -> None:
    put(shared, "a/2024/1.csv", "b/2024/2.csv", "b/2023/3.csv", "c/4.csv")
    assert sorted(found(f"{shared}/*/2024/*.csv")) == [("1.csv", "x"), ("2.csv", "x")]


def test_files_in_hidden_folders_are_left_out(shared: Place) -> None:
    put(shared / "table", "month=1/part-0.csv", "_temporary/0/part-1.csv", ".old/part-2.csv")
    put(shared / "table", "_old/part-3.csv", "month=1/_part-4.csv")
    for source in ("table", "table/*/*.csv", "*/*/part-*.csv"):
        assert found(f"{shared}/{source}") == [("part-0.csv", "x")]
    # One that is named is meant.
    assert found(f"{shared}/*/_old/*.csv") == [("part-3.csv", "x")]


def test_a_source_without_files_is_refused(shared: Place) -> None:
    put(shared, "a/notes.txt")
    for source in ("a", "*/nothing-*.csv", "a/b.csv"):
        with pytest.raises((DataError, UsageError), match=r"does not exist|has no \.csv"):
            files_of(f"{shared}/{source}")
