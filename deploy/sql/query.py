"""Run one statement over the views: read only, each view opened when a statement first names it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ParseException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from deploy.sql.catalogue import opened, views
from deploy.sql.flow import Flow
from recsys.errors import DataError, UsageError

NOT_FOUND = "TABLE_OR_VIEW_NOT_FOUND"
# Commands that only tell something; whatever else is no query may change something.
DESCRIBING = (
    "DescribeRelation",
    "DescribeQueryCommand",
    "DescribeFunction",
    "ShowColumns",
    "ShowFunctions",
)
LISTING = ("ShowTables", "ShowViews")


def query(spark: SparkSession, flow: Flow, statement: str) -> DataFrame:
    """Return what a statement asks for; nothing is read before the rows are.

    A view is opened when Spark does not find its name, at the newest commit at that time, and is
    known to this statement only.

    Args:
        spark: the session.
        flow: where the tables lie.
        statement: a SELECT or alike, DESCRIBE or SHOW.

    Raises:
        UsageError: it is no such statement, or wrong; in one sentence.
        DataError: a view that it names has nothing to read; the message names the step.
    """
    with in_words():
        if _kind_of(spark, statement) in LISTING:
            rows = [(name, view.about) for name, view in views().items()]
            return spark.createDataFrame(rows, "view string, about string")
        names = list[str]()
        try:
            while True:
                try:
                    return spark.sql(statement)
                except AnalysisException as error:
                    name = _missing(error)
                    if name is None or name in names:
                        raise
                    names.append(name)
                    opened(spark, flow, name).createOrReplaceTempView(name)
        finally:
            for name in names:
                spark.catalog.dropTempView(name)


@contextmanager
def in_words() -> Iterator[None]:
    """Turn Spark's errors into one sentence.

    Raises:
        KeyboardInterrupt: the user stopped it, and what Spark said of that stood in the way.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        if isinstance(error, PySparkException):
            raise UsageError(sentence(error)) from None
        raise DataError(f"Spark could not answer: {_cause(error)}") from None


def sentence(error: PySparkException) -> str:
    """Say in one sentence what Spark finds wrong, and where."""
    if error.getCondition() == NOT_FOUND:
        name = (error.getMessageParameters() or {}).get("relationName", "").replace("`", "")
        return f"There is no view {name!r}: choose one of {', '.join(views())}."
    text = re.sub(r"^\[[A-Z0-9_.]+\] ", "", str(error.getMessage() or error))
    text = re.sub(r"\s*SQLSTATE: \w+.*", "", text, flags=re.DOTALL)
    text = re.sub(r' If necessary set "spark[^.]*\S* to \S+ to bypass this error\.', "", text)
    place = re.search(r"line (\d+),? pos (\d+)", str(error))
    where = f" (line {place[1]}, position {int(place[2]) + 1})" if place else ""
    text = " ".join(text.split()).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}{where}."


def _cause(error: Py4JJavaError) -> str:
    """Return the first line of what lies behind an error of the JVM."""
    cause = error.java_exception
    while cause.getCause() is not None:
        cause = cause.getCause()
    return str(cause.getMessage() or cause.getClass().getSimpleName()).splitlines()[0]


def _kind_of(spark: SparkSession, statement: str) -> str:
    """Return the class of a statement's plan; raises UsageError where it is no query.

    Spark's own grammar decides: a query is what its rule for queries reads.
    """
    parser = spark._jsparkSession.sessionState().sqlParser()
    kind = str(parser.parsePlan(statement).getClass().getSimpleName())
    if kind in DESCRIBING or kind in LISTING:
        return kind
    try:
        parser.parseQuery(statement)
    except ParseException:
        word = re.sub(r"^(\s|--[^\n]*\n|/\*.*?\*/)*", "", statement, flags=re.DOTALL).split()[0]
        raise UsageError(
            f"{word.upper()} is refused, the tables are read only: use SELECT, DESCRIBE or SHOW."
        ) from None
    return kind


def _missing(error: AnalysisException) -> str | None:
    """Return the view that Spark did not find; None where the error is another one."""
    if error.getCondition() != NOT_FOUND:
        return None
    parts = (error.getMessageParameters() or {}).get("relationName", "").split(".")
    name = parts[0].strip("`").lower()
    return name if len(parts) == 1 and name in views() else None
