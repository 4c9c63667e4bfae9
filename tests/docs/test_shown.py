"""What the pages show is found, and each piece has its place: executed here, or named elsewhere."""

import re
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from recsys.data.mapping import Mapping
from recsys.search.reading import algorithm_of, read_spaces
from recsys.strategy import load_strategy
from tests.docs.commands import PAGES, ROOT, Block, blocks, commands
from tests.docs.plan import CODE_ELSEWHERE, ELSEWHERE, INSTEAD, NOT_EXECUTED, exists, planned

COMMANDS = [command for page in PAGES for command in commands(page)]
YAML = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]


def _page(folder: Path, text: str) -> Path:
    (folder / "page.md").write_text(text)
    return folder / "page.md"


def test_commands_are_found_in_fences_and_in_the_text(tmp_path: Path) -> None:
    page = _page(
        tmp_path,
        "Call `python -m a.b`.\n```\nmake x   # why\nA=1 python -m c \\\n  --d 'e # f'\n```\n"
        "  ```\n  $ python -m g\n  said\n  ```\n```\nsaid\n```\n```python\nmake = 1\n```\n",
    )
    assert [(c.line, c.text) for c in commands(page)] == [
        (1, "python -m a.b"),
        (3, "make x"),
        (4, "A=1 python -m c --d 'e # f'"),
        (8, "python -m g"),
    ]


@pytest.mark.parametrize("text", ["python -m a\nsaid\n", "said\npython -m a\n"])
def test_a_fence_that_mixes_commands_and_output_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md:3"):
        commands(_page(tmp_path, f"```\n{text}```\n"))


def test_every_entry_of_the_tables_is_needed_and_leads_to_a_test() -> None:
    for table in (ELSEWHERE, NOT_EXECUTED):
        for pattern in table:
            found = [c for c in COMMANDS if re.fullmatch(pattern, c.text)]
            assert found, f"no page shows {pattern}"
    assert [place for place in ELSEWHERE.values() if not exists(place)] == []
    assert [place for place in CODE_ELSEWHERE.values() if not exists(place)] == []
    shown = [c.text for c in COMMANDS]
    assert [p for p, _ in INSTEAD if not any(re.search(p, text) for text in shown)] == []


def test_most_commands_are_executed() -> None:
    left = [c for c in COMMANDS if planned(NOT_EXECUTED, c)]
    assert len(COMMANDS) > 100
    assert len(left) < len(COMMANDS) / 4


def test_every_make_target_is_there() -> None:
    targets = {shlex.split(c.text)[1] for c in COMMANDS if c.text.startswith("make ")}
    assert len(targets) > 5
    for target in sorted(targets):
        done = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", YAML, ids=lambda block: f"{block.page}:{block.line}")
def test_every_yaml_is_what_the_project_reads(block: Block, tmp_path: Path) -> None:
    values = yaml.safe_load(block.text)
    file = tmp_path / f"{values.get('name', 'shown')}.yaml"
    file.write_text(block.text)
    if "parameters" in values:
        assert read_spaces({algorithm_of(file): file})
    elif "audience" in values:
        assert load_strategy(str(file)).name == values["name"]
    else:
        assert Mapping.load(str(file)).item_id


def test_every_module_that_a_schedule_or_an_output_names_is_there() -> None:
    named = {
        name
        for page in PAGES
        for block in blocks(page)
        for name in re.findall(r"python -m ([\w.]+)", block.text)
    }
    assert "deploy.batch_score" in named
    assert [name for name in sorted(named) if find_spec(name) is None] == []


def test_every_fence_is_of_a_language_that_is_looked_at() -> None:
    # SQL: tests/deploy/sql holds each statement to the question's own file. ini: a schedule.
    known = {"", "python", "yaml", "sql", "ini"}
    assert {b.language for page in PAGES for b in blocks(page)} <= known
