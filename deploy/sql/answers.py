"""Write the views, the questions and their answers into the analysts' page.

Between its marks the page holds what the code says and what the tables answer; the rest is left as
it is. The answers on the page are those of UCI Online Retail.

python -m deploy.sql.answers --root out
"""

import re

import pyarrow as pa
from pydantic import Field
from pyspark.sql import SparkSession

from deploy.sql import catalogue, questions
from deploy.sql.customers import SEGMENTS
from deploy.sql.flow import Flow, flow_of
from deploy.sql.query import in_words, query
from deploy.sql.shown import as_markdown
from recsys import cli
from recsys.config import Config
from recsys.errors import DataError, UsageError
from recsys.progress import say
from recsys.session import spark_session
from recsys.storage import place_of, read_file, write_file

VIEWS, ANSWERS = "views", "answers"


class AnswersConfig(Config):
    """Parameters of `answers`."""

    root: str = Field("out", description="folder or URL that the flow wrote to")
    model_name: str = Field("recommender", description="registered model of the releases")
    page: str = Field("docs/analysts.md", description="Markdown page to write into")


def run_answers(config: AnswersConfig, spark: SparkSession) -> None:
    """Ask every question and write the page anew.

    Raises:
        UsageError: there is no such page, or it lacks the marks.
        DataError: a question has no answer yet; the message names the step.
    """
    file = place_of(config.page)
    data = read_file(file)
    if data is None:
        raise UsageError(f"There is no page {file}: give --page.")
    flow = flow_of(config.root, model_name=config.model_name)
    page = with_part(data.decode(), VIEWS, views_as_markdown())
    page = with_part(page, ANSWERS, "\n".join(answered(spark, flow, n) for n in questions.names()))
    write_file(file, page.encode())
    say(f"{len(questions.names())} answers in {file}")


def with_part(page: str, name: str, text: str) -> str:
    """Put a text between a page's marks; raises UsageError where it has none."""
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"({marks[0]}\n).*?({marks[1]})", re.DOTALL)
    if not pattern.search(page):
        raise UsageError(f"The page lacks the marks {marks[0]} and {marks[1]}: add them.")
    return pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page)


def views_as_markdown() -> str:
    """Write every view with its columns, and the segments."""
    lines = list[str]()
    for name, view in catalogue.views().items():
        more = ", and what else the retailer's source has" if view.more else ""
        lines += [f"### {name}", "", f"{view.about} Made by `{view.step}`.", ""]
        lines += ["| column | type | |", "|---|---|---|"]
        lines += [f"| {c} | {kind} | {text} |" for c, (kind, text) in view.columns.items()]
        lines += ["", f"These columns{more}.", ""] if more else [""]
        if name == "customers":
            lines += ["| segment | the first rule that holds | |", "|---|---|---|"]
            lines += [f"| {s.name} | `{s.rule}` | {s.meaning} |" for s in SEGMENTS] + [""]
    return "\n".join(lines).rstrip()


def answered(spark: SparkSession, flow: Flow, name: str) -> str:
    """Write a question with its statement and its answer; raises DataError where there is none."""
    with in_words():
        table: pa.Table = query(spark, flow, questions.read(name)).toArrow()
    if not len(table):
        raise DataError(f"The question {name} has no answer in these tables: run the whole flow.")
    return "\n".join(
        [
            f"### {questions.asked(name)}",
            "",
            f"```\npython -m deploy.sql --file {name}\n```",
            "",
            f"```sql\n{questions.body(name)};\n```",
            "",
            *as_markdown(table),
            "",
        ]
    )


def main(config: AnswersConfig) -> None:
    """Run in a session of its own."""
    run_answers(config, spark_session("answers", config.root))


if __name__ == "__main__":
    cli.run(main, AnswersConfig, __doc__, "python -m deploy.sql.answers")
