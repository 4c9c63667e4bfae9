"""The prompt: statements typed line by line, until a semicolon, over the views."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from pyspark.sql import SparkSession

from deploy.sql import catalogue, questions
from deploy.sql.flow import Flow
from deploy.sql.query import in_words, query
from deploy.sql.shown import as_text
from deploy.sql.statements import is_empty, split
from recsys.errors import RecsysError
from recsys.progress import say
from recsys.storage.azure import redacted

VARIABLE = "RECSYS_SQL_HISTORY"
REMEMBERED = 1_000
FIRST, NEXT = "sql> ", "...> "
HELP = f"""\
Type a Spark SQL statement and end it with a semicolon; it may span lines.

  tables             the views
  describe VIEW      what a view means, column by column
  questions          ten questions with their statements
  question NAME      one of them, with its answer
  help               this text
  quit               leave (Ctrl-D, too); Ctrl-C drops the line, or stops what is running

Views follow what is published: each statement reads the newest commits.
Earlier lines come back with the arrow keys; {VARIABLE} names the file that keeps them."""


def prompt(spark: SparkSession, flow: Flow, most: int) -> int:
    """Answer statements until the input ends.

    Args:
        spark: the session.
        flow: where the tables lie.
        most: rows to show of an answer.

    Returns:
        How many statements failed.
    """
    interactive = sys.stdin.isatty()
    if interactive:
        _remember()
        say(f"Spark SQL over {flow.interactions.parent}. `help` says what there is to type.")
    failed, text = 0, ""
    while True:
        try:
            line = input((NEXT if text else FIRST) if interactive else "")
        except KeyboardInterrupt:
            say("")
            text = ""
            continue
        except EOFError:
            if interactive:
                say("")
            return failed + _all(spark, flow, most, [] if is_empty(text) else [text])
        if not text and (command := _command(line)) is not None:
            if command == "quit":
                return failed
            failed += _told(partial(_answer, spark, flow, most, command))
            continue
        statements, rest = split(f"{text}{line}\n")
        text = "" if is_empty(rest) else rest
        failed += _all(spark, flow, most, statements)


def _all(spark: SparkSession, flow: Flow, most: int, statements: list[str]) -> int:
    """Show the answers of statements and return how many failed."""

    def show(statement: str) -> None:
        say(answer(spark, flow, statement, most))

    return sum(_told(partial(show, statement)) for statement in statements)


def answer(spark: SparkSession, flow: Flow, statement: str, most: int) -> str:
    """Return the answer of a statement as a table."""
    with in_words():
        return as_text(query(spark, flow, statement), most)


def _command(line: str) -> str | None:
    """Return one of the prompt's own words with its argument; None for anything else."""
    words = line.strip().rstrip(";").lower().split()
    if len(words) == 1 and words[0] in ("exit", "quit"):
        return "quit"
    known = (["tables"], ["help"], ["questions"])
    takes_one = len(words) == 2 and words[0] in ("describe", "question")
    return " ".join(words) if words in known or takes_one else None


def _answer(spark: SparkSession, flow: Flow, most: int, command: str) -> None:
    """Do what one of the prompt's own words says."""
    word, _, name = command.partition(" ")
    if word == "describe":
        say(catalogue.described(name))
    elif word == "question":
        say(f"{questions.read(name)}\n")
        say(answer(spark, flow, questions.read(name), most))
    else:
        say({"tables": catalogue.listed, "questions": questions.listed, "help": HELP.strip}[word]())


def _told(work: Callable[[], None]) -> int:
    """Do something and, where it fails, say why in one line; returns 1 then, else 0."""
    try:
        work()
    except RecsysError as error:
        reason = str(error)
    except KeyboardInterrupt:
        reason = "stopped."
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0]}"
    else:
        return 0
    print(f"error: {redacted(reason)}", file=sys.stderr, flush=True)
    return 1


def _remember() -> None:
    """Let earlier lines come back, also those of former prompts."""
    try:
        import readline
    except ImportError:  # a Python that was built without it; the prompt works all the same
        return
    import atexit

    file = Path(os.environ.get(VARIABLE) or Path.home() / ".recsys_sql_history")
    with suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(REMEMBERED)

    def keep() -> None:
        with suppress(OSError):
            readline.write_history_file(file)

    atexit.register(keep)
