"""The commands and the code that the pages show.

A fence without a language holds either commands or what a program printed:

- commands alone: its first line is one, and so is every other line (`\\` goes on, `<<'END'` holds
  text, `#` remarks);
- a dialogue: lines that begin with `$ ` are commands, the others are answers;
- output: no line of it looks like a command.

Inline code that begins as a command does is one, too.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# The first word of a command, behind variables that are set for it alone.
STARTS = re.compile(
    r"(?:[A-Z_]+=\S+ )*"
    r"(?:(?:\.venv/bin/)?(?:python|mlflow|jupyter) |make(?= |$)|\. \S|export [A-Z]|umask \d|cp |"
    r"cd \S|az [a-z]|curl |docker |install -|pg_\w+ |sudo |git |ls |cat |echo |source )"
)
# Behind at least two spaces, so that a sign inside of quotes stays.
REMARK = re.compile(r"\s{2,}# .*$")


@dataclass(frozen=True)
class Command:
    """One command as a page shows it, without remarks and line breaks."""

    page: str
    line: int
    text: str


@dataclass(frozen=True)
class Block:
    """A fence: where it stands, its language and what it holds."""

    page: str
    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return a page's fences in order."""
    text = page.read_text("utf-8")
    found = []
    for match in FENCE.finditer(text):
        indent = len(match[1])
        lines = [line[indent:] for line in match[3].splitlines()]
        start = text.count("\n", 0, match.start()) + 1
        found.append(Block(page.name, start, match[2], "\n".join(lines) + "\n"))
    return found


def commands(page: Path) -> list[Command]:
    """Return all commands of a page in order, those of fences and those inside the text.

    Raises:
        ValueError: a fence mixes commands and output, or a line of output looks like a command.
    """
    found = [c for block in blocks(page) if not block.language for c in _of_fence(block)]
    return sorted([*found, *_inline(page)], key=lambda command: command.line)


def is_command(text: str) -> bool:
    """Tell whether a line begins as a command does."""
    return STARTS.match(text) is not None


def _of_fence(block: Block) -> list[Command]:
    lines = block.text.splitlines()
    dialogue = any(line.startswith("$ ") for line in lines)
    alone = not dialogue and is_command(next((x for x in lines if x.strip()), ""))
    found: list[Command] = []
    numbers = iter(range(len(lines)))
    for number in numbers:
        text = lines[number]
        if dialogue:
            if not text.startswith("$ "):
                continue
            text = text.removeprefix("$ ")
        elif not alone or not text.strip() or text.startswith("#"):
            if not alone and is_command(text):
                raise ValueError(f"{block.page}:{block.line + number + 1}: a command in output")
            continue
        if not is_command(text):
            raise ValueError(f"{block.page}:{block.line + number + 1}: no command: {text}")
        start = number
        while text.endswith("\\"):
            number = next(numbers)
            text = text.removesuffix("\\").rstrip() + " " + lines[number].strip()
        if here := re.search(r"<<'(\w+)'$", text):
            while lines[number] != here[1]:
                number = next(numbers)
                text += "\n" + lines[number]
        else:
            text = REMARK.sub("", text)
        found.append(Command(block.page, block.line + start + 1, text.rstrip()))
    return found


def _inline(page: Path) -> list[Command]:
    text = page.read_text("utf-8")
    # Fences become empty lines, so that line numbers stay.
    prose = FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    found = []
    for match in re.finditer(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", prose):
        code = " ".join(match[1].split())
        if is_command(code):
            found.append(Command(page.name, prose.count("\n", 0, match.start()) + 1, code))
    return found
