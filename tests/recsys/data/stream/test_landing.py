"""A landing folder is the same on a disk and in a cloud."""

import os
from pathlib import Path

import pytest

from recsys.data.replace import replaced
from recsys.data.stream.landing import check_apart, landing_of, listing, look
from recsys.data.stream.state import State
from recsys.data.stream.verdicts import Intake, judge_files
from recsys.errors import UsageError
from recsys.storage import Place, make_folder, write_file
from tests.recsys.data.stream.landing_shop import AT_ONCE, HEADER, MAPPING


def put(folder: Place, *names: str) -> None:
    """Write files into a folder and into folders of it."""
    for name in names:
        make_folder((folder / name).parent)
        write_file(folder / name, name.encode())


def test_a_file_has_one_version_until_it_changes(shared: Place) -> None:
    put(shared, "1.csv", "2.csv")
    landing = landing_of(str(shared))
    listed = listing(landing)
    assert list(listed.values()) == look(landing, ["1.csv", "2.csv"])
    write_file(shared / "1.csv", b"more than before")
    changed, same = look(landing, ["1.csv", "2.csv"])
    assert (changed.version == listed["1.csv"].version, same) == (False, listed["2.csv"])


def test_files_in_hidden_folders_are_left_out(shared: Place) -> None:
    put(shared, "month=1/1.csv", "_temporary/0/2.csv", ".old/3.csv")
    assert list(listing(landing_of(str(shared)))) == ["month=1/1.csv"]


def test_of_a_folder_that_was_written_as_a_whole_the_content_is_followed(shared: Place) -> None:
    with replaced(shared / "raw", "1.csv") as fresh:
        put(fresh, "1.csv", "truth/2.csv")
    landing = landing_of(str(shared / "raw"))
    assert (list(listing(landing)), landing.deep) == (["1.csv"], False)


def test_a_glob_of_folders_is_refused(shared: Place) -> None:
    put(shared, "a/1.csv")
    with pytest.raises(UsageError, match="is not a folder"):
        landing_of(f"{shared}/*/1.csv")


@pytest.mark.parametrize(
    ("output", "state", "told"),
    [
        ("raw/out", "state", "the output .* lies in the landing folder"),
        ("out", "raw/state", "the state .* lies in the landing folder"),
        (".", "../state", "the landing folder .* lies in the output"),
        ("out", "out/state", "the state .* lies in the output"),
        ("state/out", "state", "the output .* lies in the state"),
        ("../out", ".", "the landing folder .* lies in the state"),
        ("out", "out", "the output .* lies in the state"),
    ],
)
def test_no_folder_of_a_stream_lies_in_another(
    shared: Place, output: str, state: str, told: str
) -> None:
    put(shared / "shop", "raw/1.csv")
    landing = landing_of(f"{shared}/shop/raw/*.csv")
    output_place, state_place = (_inside(shared / "shop", name) for name in (output, state))
    with pytest.raises(UsageError, match=f"{told}.*give folders that lie apart"):
        check_apart(landing, output_place, state_place)
    check_apart(landing, shared / "shop" / "raw2", shared / "shop" / "raw2.stream")


def _inside(folder: Place, name: str) -> Place:
    if name == ".":
        return folder
    return folder.parent / name[3:] if name.startswith("../") else folder / name


def test_one_odd_name_does_not_hide_the_other_files(tmp_path: Path) -> None:
    line = "r1,item1,thing,1,2024-01-01 12:00:00,2.00,card1,north"
    names = [
        b"1.csv", b"Icon\r", b"a\x7f.txt", b"tab\t.csv", b"end\n.csv", b"caf\xe9.csv",
        b"at 10:00:00.csv",
    ]  # fmt: skip
    for number, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_text(f"{HEADER}\n{line}{number}\n")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.csv")
    landing = landing_of(str(tmp_path))
    files = listing(landing)
    intake = Intake(State(tmp_path, "", ""), landing, MAPPING, AT_ONCE, 0)
    verdicts, _ = judge_files(intake, [*files.values()])
    assert {name for name, known in verdicts.items() if known.verdict == "taken"} == {
        "1.csv", "tab\t.csv", "end\n.csv",
    }  # fmt: skip
    refused = {name: known.reason for name, known in verdicts.items() if known.verdict != "taken"}
    assert "has a colon in its name" in refused.pop("at 10:00:00.csv")
    assert "is not UTF-8: rename it" in refused.pop("caf\ufffd.csv")
    assert refused == {}
    assert look(landing, ["tab\t.csv", "gone.csv", "pipe.csv"]) == [files["tab\t.csv"]]


def test_of_another_encoding_only_the_header_counts(tmp_path: Path) -> None:
    texts = {"body.csv": f"{HEADER}\nr1,item1,café\n", "head.csv": f"{HEADER},café\n1\n"}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    landing = landing_of(str(tmp_path))
    intake = Intake(State(tmp_path, "", ""), landing, MAPPING, AT_ONCE, 0)
    verdicts, _ = judge_files(intake, [*listing(landing).values()])
    assert verdicts["body.csv"].verdict == "taken"
    assert verdicts["head.csv"].verdict == "refused"
    assert "name the file's `encoding` in the mapping" in verdicts["head.csv"].reason
