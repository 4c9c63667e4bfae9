"""Ask the flow's tables in Spark SQL: one statement, a file of them, or a prompt.

  python -m deploy.sql                                         a prompt; `help` there says more
  python -m deploy.sql "SELECT segment, count(*) FROM customers GROUP BY segment"
  python -m deploy.sql --file question.sql
  python -m deploy.sql --file best_customers                   one of the ten questions
  python -m deploy.sql "SELECT * FROM customers" --format csv --output customers.csv

Only statements that read are allowed. A view that has nothing to read yet names the step that
makes it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field
from pyspark.sql import SparkSession

from deploy.sql import questions
from deploy.sql.flow import Flow, flow_of
from deploy.sql.prompt import answer, prompt
from deploy.sql.query import in_words, query
from deploy.sql.shown import as_csv, write
from deploy.sql.statements import all_of
from recsys import cli
from recsys.config import Config
from recsys.errors import DataError, UsageError
from recsys.progress import say
from recsys.session import spark_session
from recsys.storage import place_of, read_file

FLAGS = ("--traceback", "--help", "-h")


class SqlConfig(Config):
    """Parameters of `sql`."""

    statement: str | None = Field(
        None, description="what to ask, also as a word of its own; none, without file: a prompt"
    )
    file: str | None = Field(None, description="file of statements, or the name of a question")
    root: str = Field("out", description="folder or URL that the flow wrote to")
    interactions: str | None = Field(
        None, description="folder that ingest wrote; none: ingested below root"
    )
    recommendations: str | None = Field(
        None, description="published folders, by comma; none: recommendations below root"
    )
    results: str | None = Field(
        None, description="folder that measure publishes to; none: campaign_results below root"
    )
    model_name: str = Field("recommender", description="registered model of the releases")
    format: Literal["table", "csv", "parquet"] = Field("table", description="how to write rows")
    output: str | None = Field(None, description="file to write; none: the terminal")
    rows: int = Field(100, ge=1, le=1_000_000, description="rows to show of a table")

    @property
    def flow(self) -> Flow:
        """Return where the tables lie."""
        return flow_of(
            self.root, self.interactions, self.recommendations, self.results, self.model_name
        )


def run_sql(config: SqlConfig, spark: SparkSession) -> None:
    """Answer the statements, or open a prompt.

    Raises:
        UsageError: a statement is wrong or may change something, or there is no such file.
        DataError: a view has nothing to read, or a statement of the prompt's input failed.
    """
    if config.statement is None and config.file is None:
        failed = prompt(spark, config.flow, config.rows)
        if failed and not sys.stdin.isatty():
            raise DataError(f"{failed} of the statements could not be answered.")
        return
    for statement in statements_of(config):
        if config.format == "table":
            say(answer(spark, config.flow, statement, config.rows))
            continue
        with in_words():
            frame = query(spark, config.flow, statement)
            if config.output is None:
                say(as_csv(frame).decode().removesuffix("\n"))
            else:
                count = write(frame, config.format, place_of(config.output))
                say(f"{count:,} rows in {config.output}")


def statements_of(config: SqlConfig) -> list[str]:
    """Return what is asked; raises UsageError where that is nothing, or does not fit one file."""
    found = all_of(config.statement or _text_of(config.file or ""))
    if not found:
        raise UsageError('There is no statement to run: give one, such as "SELECT 1".')
    if len(found) > 1 and config.output:
        raise UsageError(f"One file holds one answer, not {len(found)}: give one statement.")
    return found


def _text_of(file: str) -> str:
    """Return a file's text, or a question's; raises UsageError where it is no text in UTF-8."""
    data = read_file(place_of(file))
    try:
        # Some editors begin a file with a byte order mark.
        return questions.read(file) if data is None else data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = (data or b"")[: error.start].count(b"\n") + 1
        raise UsageError(f"{file} is no UTF-8 (line {line}): save it in that encoding.") from None


def optioned(words: Sequence[str]) -> list[str]:
    """Write the words that stand by themselves as the option `statement`, which they are."""
    options, bare, value_next = list[str](), list[str](), False
    for word in words:
        is_option = word.startswith("-") and not any(map(str.isspace, word)) and not value_next
        (options if is_option or value_next else bare).append(word)
        value_next = is_option and "=" not in word and word not in FLAGS
    return [*options, *([f"--statement={' '.join(bare)}"] if bare else [])]


def check(config: SqlConfig) -> None:
    """Check what can be checked without a session; raises UsageError."""
    if config.statement and config.file:
        raise UsageError("Give a statement or a file, not both.")
    if config.format == "parquet" and not config.output:
        raise UsageError("Parquet is no text for a terminal: give --output FILE.")
    if config.format == "table" and config.output:
        raise UsageError("A table is for the terminal: for a file give --format csv or parquet.")
    if config.output and isinstance(place := place_of(config.output), Path) and place.is_dir():
        raise UsageError(f"{config.output} is a folder: name a file in it.")
    if config.statement or config.file:
        statements_of(config)


def main(config: SqlConfig) -> None:
    """Run in a session of its own, after what can be checked without one."""
    check(config)
    run_sql(config, spark_session("sql", *config.flow.places))


if __name__ == "__main__":
    cli.run(main, SqlConfig, __doc__, "python -m deploy.sql", optioned(sys.argv[1:]))
