"""Every command and every piece of Python that a page shows is executed."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from pyspark.sql import SparkSession

from tests.docs.commands import PAGES, ROOT, Block, Command, blocks, commands
from tests.docs.plan import (
    AFTER,
    BEFORE,
    CODE_ELSEWHERE,
    ELSEWHERE,
    NAMES,
    NOT_EXECUTED,
    instead,
    planned,
)
from tests.docs.terminal import PACKAGES, Terminal, run_options
from tests.stores import keep_below

SCIENTIST = ROOT / "docs" / "scientist.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Between the data scientist's first commands (the number: how many fits are done): popularity holds
# Production and has scored, als beats it. The retailer is the one that the pages show.
FLOW = (
    (1, "python -m registry.compare --dataset out/dataset"),
    (1, "python -m registry.promote --version 1 --reason first"),
    (1, "python -m deploy.batch_score --interactions out/ingested --output out/recommendations"),
    (2, "python -m registry.compare --dataset out/dataset"),
)


def _flow() -> list[str]:
    """What has to be done before any page, in order."""
    shown = [c.text for c in commands(SCIENTIST) if planned(ELSEWHERE, c) is None]
    trained = [n for n, text in enumerate(shown) if "-e popularity" in text or "-e als" in text]
    first, second = trained[0] + 1, trained[1] + 1
    between, after = ([text for turn, text in FLOW if turn == n] for n in (1, 2))
    return [*shown[:first], *between, *shown[first:second], *after]


@pytest.fixture(scope="module")
def terminal(
    spark: SparkSession, empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("project")
    previous = mlflow.get_tracking_uri()
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RECSYS_LEDGER", raising=False)
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        terminal = Terminal(folder, patch)
        terminal.be("joan")
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        keep_below(folder)
        for command in _flow():
            terminal.run(command)
        yield terminal
        mlflow.set_tracking_uri(previous)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_can_be_done(page: Path, terminal: Terminal) -> None:
    names = dict(NAMES.get(page.name, {}))
    waiting = {text: step for (name, text), step in BEFORE.items() if name == page.name}
    code = [block for block in blocks(page) if block.language == "python"]
    for shown in sorted([*commands(page), *code], key=lambda piece: piece.line):
        for text in [text for text in waiting if shown.text.startswith(text)]:
            waiting.pop(text)(terminal)
        try:
            if isinstance(shown, Block):
                _python(shown, terminal, names)
            else:
                _command(shown, terminal)
        except Exception as error:
            raise AssertionError(f"{shown.page}:{shown.line}: {shown.text}\n{error}") from error
    assert waiting == {}
    AFTER.get(page.name, lambda _: None)(terminal)


def _python(block: Block, terminal: Terminal, names: dict[str, object]) -> None:
    if not any(block.page.startswith(p) and part in block.text for p, part in CODE_ELSEWHERE):
        terminal.python(block.text, f"{block.page}:{block.line}", names)


def _command(command: Command, terminal: Terminal) -> None:
    place = planned(ELSEWHERE, command)
    if place is None and planned(NOT_EXECUTED, command) is None:
        text = instead(command)
        # Once is enough; what is set holds for one page.
        if text not in terminal.said or text.startswith("export"):
            terminal.run(text)
    elif place is not None and command.text.startswith("mlflow run . -e "):
        run_options(shlex.split(command.text)[2:])
    elif command.text.startswith("python -m ") and not (place or "").startswith("tests/docs/"):
        _check_options(command, terminal)


def _check_options(command: Command, terminal: Terminal) -> None:
    """What is not executed here takes the options that the page gives it, by its own help."""
    words = shlex.split(command.text)[2:]
    if words[0].split(".")[0] not in PACKAGES:
        return
    verbs = [word for word in words[1:2] if not word.startswith("-") and "/" not in word]
    said = terminal.module(words[0], *verbs, "--help")
    missing = [word for word in words if word.startswith("--") and word not in said]
    assert missing == [], said
