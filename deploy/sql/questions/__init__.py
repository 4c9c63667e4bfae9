"""Questions that analysts ask, each a commented statement of its own."""

from pathlib import Path

from recsys.errors import UsageError

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the questions' names, in their order."""
    return [file.stem.partition("_")[2] for file in _files()]


def read(name: str) -> str:
    """Return a question's statement; raises UsageError for an unknown one."""
    for file in _files():
        if name in (file.stem, file.stem.partition("_")[2]):
            return file.read_text("utf-8").strip().removesuffix(";")
    raise UsageError(f"There is no question {name!r}: choose one of {', '.join(names())}.")


def asked(name: str) -> str:
    """Return the question in words, the first line of its file."""
    return read(name).splitlines()[0].removeprefix("--").strip()


def body(name: str) -> str:
    """Return a question's statement without the question itself."""
    return read(name).partition("\n")[2]


def listed() -> str:
    """Write each question's name and words."""
    width = max(map(len, names()))
    return "\n".join(f"  {name:<{width}}  {asked(name)}" for name in names())


def _files() -> list[Path]:
    return sorted(FOLDER.glob("*.sql"))
