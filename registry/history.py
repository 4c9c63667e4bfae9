"""Print who held a stage: who decided, when, what, why, and on what evidence.

python -m registry.history --model-name recommender
python -m registry.history --model-name recommender --output out/history     also HTML and Parquet
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
from mlflow.exceptions import MlflowException
from pydantic import Field

from recsys import cli
from recsys.config import Config
from recsys.errors import RegistryError
from recsys.progress import say
from recsys.storage import make_folder, place_of, write_file, write_parquet
from registry.kept import answers
from registry.ledger import STAGES, Ledger
from registry.pages import template
from registry.projection import witnessed
from registry.told import GLANCED, SHOWN, THIS, minute, plain, row
from registry.trust import stage_named

HTML, TABLE = "history.html", "history.parquet"
TEMPLATE = Path(__file__).with_name("history.html.j2")
HEADINGS = ("when (UTC)", "what", "by", "approved by", "why")
TIMES = ("time",)
NUMBERS = ("generation", "version", "candidate", "approvals_wanted")
COLUMNS = (
    *("stage", "generation", "time", "action", "version", "candidate", "algorithm", "what"),
    *("reviewer", "approved_by", "approvals_wanted", "comments", "reason", "decision"),
    *("speaks_of", "authors", "model_digest", "dataset_digest", "policy_digest", "evidence"),
    *("run_id", "digest", "predecessor"),
)
TYPES = dict.fromkeys(TIMES, pa.timestamp("us", "UTC")) | dict.fromkeys(NUMBERS, pa.int64())
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string())) for name in COLUMNS])


class HistoryConfig(Config):
    """Parameters of `history`."""

    model_name: str = Field("recommender", description="registered model of the releases")
    stage: str | None = Field(None, description="only this stage; none: all")
    output: str | None = Field(None, description="folder or URL for history.html and .parquet")


def rows_of(model_name: str, stage: str | None = None) -> list[dict[str, Any]]:
    """Return the history, the oldest decision first; raises RegistryError for a broken ledger."""
    stages = [stage_named(stage)] if stage else list(STAGES)
    found = [row(g) for s in stages for g in Ledger(model_name, s).history()]
    return sorted(found, key=lambda told: told["time"])


def run_history(config: HistoryConfig) -> list[dict[str, Any]]:
    """Print the history, and write it where asked."""
    rows = rows_of(config.model_name, config.stage)
    for warning in _doubts(config.model_name, config.stage):
        say(f"! {warning}")
    say(as_text(rows) if rows else f"Nothing was ever promoted to {config.model_name}.")
    if config.output:
        folder = place_of(config.output)
        make_folder(folder)
        write_file(folder / HTML, as_html(config.model_name, rows).encode())
        write_parquet(folder / TABLE, as_table(rows))
        say(f"\n{folder / HTML}\n{folder / TABLE}")
    return rows


def _doubts(model_name: str, stage: str | None) -> list[str]:
    """Say where MLflow remembers another ledger than the one that is printed."""
    server, found = mlflow.get_tracking_uri(), list[str]()
    if server.startswith("http") and not answers(server):
        return ["MLflow's server does not answer, so nobody knows whether the ledger is whole."]
    for one in [stage_named(stage)] if stage else STAGES:
        try:
            witnessed(Ledger(model_name, one))
        except RegistryError as error:
            found.append(str(error))
        except MlflowException as error:
            return [
                f"MLflow does not say whether the ledger is whole: {plain(str(error), GLANCED)}"
            ]
    return found


def log_history(model_name: str) -> None:
    """Log the history as an artifact of the open run."""
    mlflow.log_text(as_html(model_name, rows_of(model_name)), HTML)


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the history for a terminal, the newest decision on top."""
    rows = list(map(_plain_row, rows))
    cells = [HEADINGS, *map(_cells, reversed(rows))]
    widths = [max(map(len, column)) + 2 for column in zip(*cells, strict=True)]
    lines = ["".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)) for line in cells]
    indent = " " * widths[0]
    for place, told in enumerate(reversed(rows)):
        if told["speaks_of"] != THIS:
            lines[place + 1] += f"\n{indent}the dossier speaks of {told['speaks_of']}"
        digests = f"model {told['model_digest'][:SHOWN]}, dataset {told['dataset_digest'][:SHOWN]}"
        lines[place + 1] += (
            f"\n{indent}{told['decision']}\n{indent}{digests}, evidence in run {told['run_id']}"
        )
    return "\n".join(line.rstrip() for line in "\n".join(lines).split("\n"))


def _cells(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return who, when, what and why of one decision."""
    approved = told["approved_by"].partition(" (")[0]
    what = f"{told['what']}, generation {told['generation']}"
    typed = (plain(text, GLANCED) for text in (told["reviewer"], approved, told["reason"] or "–"))
    return minute(told["time"]), what, *typed


def _plain_row(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decision whose texts are one line each, without what would steer a terminal."""
    return {k: plain(value) if isinstance(value, str) else value for k, value in told.items()}


def as_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the history as a table for analysts, a decision a row."""
    timed = [dict(told) | {n: datetime.fromisoformat(told[n]) for n in TIMES} for told in rows]
    return pa.Table.from_pylist(timed, SCHEMA)


def as_html(model_name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the history as one page without network."""
    return template(TEMPLATE, {"minute": minute}).render(
        model_name=model_name, rows=list(map(_plain_row, reversed(rows)))
    )


if __name__ == "__main__":
    cli.run(run_history, HistoryConfig, __doc__, "python -m registry.history")
