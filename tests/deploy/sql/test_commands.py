"""The command as it is typed, the prompt, and the commands of the analysts' page."""

import fcntl
import io
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from deploy.sql import __main__ as command
from deploy.sql.answers import VIEWS, views_as_markdown, with_part
from deploy.sql.catalogue import views
from deploy.sql.flow import Flow
from deploy.sql.prompt import prompt
from deploy.sql.questions import asked, body, names
from recsys import cli
from recsys.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent.parent.parent
PAGE = (ROOT / "docs" / "analysts.md").read_text("utf-8")
SHOWN = re.findall(r"^python -m deploy\.sql (.+)$", PAGE, re.MULTILINE)

Run = Callable[[str], str]


@pytest.fixture
def run(
    flow: Flow, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command in the folder above the flow's, and return what it prints."""
    monkeypatch.chdir(place)

    def typed(words: str) -> str:
        optioned = [*command.optioned(shlex.split(words)), "--results", str(flow.results)]
        cli.run(command.main, command.SqlConfig, command.__doc__, "python -m deploy.sql", optioned)
        return capsys.readouterr().out

    return typed


def refused(run: Run, words: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as left:
        run(words)
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize("words", SHOWN)
def test_each_command_of_the_page_runs(run: Run, words: str) -> None:
    said = run(words)
    assert re.search(
        r"\([1-9]\d* rows?\)$|^[1-9][\d,]* rows in out/|^\"customer_id\"", said.strip()
    )


def test_every_question_is_among_the_commands_of_the_page() -> None:
    assert {f"--file {name}" for name in names()} <= set(SHOWN)


def test_the_page_shows_every_question_as_it_is() -> None:
    for name in names():
        assert f"### {asked(name)}\n\n```\npython -m deploy.sql --file {name}\n```" in PAGE
        assert f"```sql\n{body(name)};\n```\n\n| " in PAGE


def test_the_page_documents_the_views_as_they_are() -> None:
    assert with_part(PAGE, VIEWS, views_as_markdown()) == PAGE


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(UsageError, match="lacks the marks <!-- views -->"):
        with_part("# Page", VIEWS, "")


def parsed(*words: str) -> dict[str, str]:
    typed = command.optioned(words)
    return vars(cli.parser(command.SqlConfig, None, "sql").parse_args(typed))


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1", "-- why\nSELECT 1", "SELECT '--root=x'", "SELECT 1 = 1", "/* --rows */ TABLE t"],
)
def test_a_statement_stands_anywhere_among_the_options(statement: str) -> None:
    for words in (
        (statement, "--root", "here"),
        ("--root", "here", statement),
        ("--root=here", statement),
        ("--traceback", statement, "--root", "here"),
    ):
        assert (parsed(*words)["statement"], parsed(*words)["root"]) == (statement, "here")


def test_a_statement_needs_no_quotes_where_the_shell_needs_none() -> None:
    assert parsed("SELECT", "1", "--rows", "3")["statement"] == "SELECT 1"


def test_without_a_statement_there_is_none() -> None:
    assert parsed("--file", "best_customers")["statement"] is None


def test_a_file_may_hold_several_statements(run: Run, tmp_path: Path) -> None:
    (tmp_path / "two.sql").write_text("-- one; first\nSELECT 1 AS one;\nSELECT 2 AS two\n")
    assert (
        run(f"--file {tmp_path / 'two.sql'}") == "one\n---\n  1\n(1 row)\ntwo\n---\n  2\n(1 row)\n"
    )


def test_a_file_may_begin_with_a_byte_order_mark(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bom.sql").write_bytes("SELECT 'é' AS one".encode("utf-8-sig"))
    assert run(f"--file {tmp_path / 'bom.sql'}") == "one\n---\né\n(1 row)\n"


def test_csv_on_the_terminal_has_every_row(run: Run) -> None:
    found = run("\"SELECT x FROM VALUES ('a'), (NULL), (NULL) t(x)\" --format csv")
    assert found == '"x"\n"a"\n\n\n'


def test_a_file_in_another_encoding_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.sql").write_bytes("SELECT 1 AS\n  menge_in_stück".encode("latin-1"))
    code, said = refused(run, f"--file {tmp_path / 'old.sql'}", capsys)
    assert (code, "old.sql is no UTF-8 (line 2): save it" in said) == (2, True)


def test_files_hold_every_row_with_ids_as_they_are(run: Run, place: Path, tmp_path: Path) -> None:
    ids = "SELECT DISTINCT customer_id FROM audience"
    parquet, csv = tmp_path / "ids.parquet", tmp_path / "ids.csv"
    run(f'"{ids}" --rows 1 --format parquet --output {parquet}')
    said = run(f'"{ids}" --rows 1 --format csv --output {csv}')
    found = pq.read_table(parquet)["customer_id"].to_pylist()
    assert f"{len(found)} rows in {csv}" in said
    text = pyarrow.csv.ConvertOptions(column_types={"customer_id": "string"})
    again = pyarrow.csv.read_csv(csv, convert_options=text)["customer_id"].to_pylist()
    assert sorted(again) == sorted(found)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("'DROP TABLE items'", "DROP is refused, the tables are read only"),
        ("'SELECT 1; SELECT 2' --format csv --output two.csv", "One file holds one answer, not 2"),
        ("'SELECT 1' --format parquet", "Parquet is no text for a terminal: give --output FILE"),
        (
            "'SELECT 1' --output x.txt",
            "A table is for the terminal: for a file give --format csv or parquet",
        ),
        ("'SELECT 1' --format csv --output out", "out is a folder: name a file in it"),
        (
            "'SELECT 1' --rows 2147483647",
            "is not usable: input should be less than or equal to 1000000",
        ),
        ("'SELECT 1' --file best_customers", "Give a statement or a file, not both"),
        ("' ; '", "There is no statement to run"),
        ("--file nix", "There is no question 'nix': choose one of best_customers"),
        ("'SELECT 1' 'SELECT 2'", "Syntax error at or near 'SELECT' (line 1, position 10)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    run: Run, capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    code, said = refused(run, words, capsys)
    assert code == 2
    assert told in said
    assert said.count("\n") == 1


def test_the_prompt_answers_says_what_is_wrong_and_goes_on(
    spark: SparkSession,
    flow: Flow,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [
        "tables",
        "describe audience",
        "DESCRIBE nix",
        "SELECT count(*) AS n,  -- a comment; no end",
        "  ';' AS sign",
        "FROM audience; SELECT 7 AS seven;",
        "DROP TABLE items;",
        "question nix",
        "questions",
        "help",
        "SELECT 8 AS eight",
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert prompt(spark, flow, 10) == 3
    said = capsys.readouterr()
    assert "campaign_results" in said.out
    assert "treatment, or control: held out" in said.out
    assert re.search(r"n  sign\n-+  ----\n\d+  ;\n\(1 row\)\nseven", said.out)
    assert "eight\n-----\n    8" in said.out
    assert "Which rows were refused, and why?" in said.out
    assert said.err.splitlines() == [
        f"error: There is no view 'nix': choose one of {', '.join(views())}.",
        "error: DROP is refused, the tables are read only: use SELECT, DESCRIBE or SHOW.",
        f"error: There is no question 'nix': choose one of {', '.join(names())}.",
    ]


def test_statements_from_a_pipe_that_fail_end_with_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT nix;"))
    code, said = refused(run, "", capsys)
    assert code == 1
    assert said.splitlines()[-1] == "error: 1 of the statements could not be answered."


class Terminal:
    """A program on a terminal of its own, as somebody types into it."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.screen, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.sql", *arguments],
            **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
            cwd=ROOT,
            env=os.environ | environment | {"TERM": "dumb"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text: str, seconds: float = 90.0) -> str:
        """Return what came up to a text, which must come in time."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.screen], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} did not come, but {self.seen!r}"
            self.seen += os.read(self.screen, 4096).decode().replace("\r\n", "\n")
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C as late as a hand would: the program waits for input, or is at work."""
        time.sleep(3)
        self.type("\x03")


@pytest.mark.slow
def test_on_a_terminal_lines_can_be_dropped_queries_stopped_and_history_kept(
    tmp_path: Path,
) -> None:
    history = tmp_path / "history"
    terminal = Terminal("--root", str(tmp_path), RECSYS_SQL_HISTORY=str(history))
    try:
        terminal.wait_for("sql> ")
        terminal.type("SELECT 40 +\n")
        terminal.wait_for("...> ")
        terminal.type("2 AS answer;\n")
        assert "answer\n------\n    42\n(1 row)" in terminal.wait_for("sql> ")
        terminal.type("SELECT nonsense\n")
        terminal.wait_for("...> ")
        terminal.interrupt()
        assert "error" not in terminal.wait_for("sql> ")
        terminal.type("SELECT sum(id % 7) FROM range(1000000000000);\n")
        terminal.interrupt()
        assert "error: stopped." in terminal.wait_for("sql> ")
        terminal.type("TABLE audience;\n")
        assert "yet: run batch_score" in terminal.wait_for("sql> ")
        terminal.type("\x04")
        assert terminal.process.wait(60) == 0
    finally:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()
    assert "2 AS answer;" in history.read_text()
