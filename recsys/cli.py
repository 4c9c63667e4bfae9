"""Command lines made from configurations: the same names, help and limits everywhere."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from recsys.config import Config
from recsys.errors import RecsysError
from recsys.storage.azure import redacted

C = TypeVar("C", bound=Config)


def parser(config: type[Config], doc: str | None, name: str) -> argparse.ArgumentParser:
    """Make an argument parser with one option a field of `config`.

    Args:
        config: the step's parameters; a field's description becomes its help text.
        doc: the module's docstring, shown above the options.
        name: the command as a user types it.
    """
    result = argparse.ArgumentParser(
        prog=name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for field_name, field in config.model_fields.items():
        text = (field.description or "").replace("%", "%%")
        if not field.is_required():
            text += f" (default: {'none' if field.default is None else field.default})"
        result.add_argument(
            f"--{field_name}", help=text, required=field.is_required(), metavar=field_name.upper()
        )
    result.add_argument(
        "--traceback", action="store_true", help="show the Python stack trace of an error"
    )
    return result


def run(
    step: Callable[[C], object],
    config: type[C],
    doc: str | None,
    name: str,
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse, run one step, and exit: 0 done, 1 could not be done, 2 wrong parameter.

    An empty value and the word `none` stand for a parameter that is not given, because an
    MLproject passes every parameter; `never` turns off one that has a default, such as a half-life.
    Hyphens in an option's name are the same as underscores.
    """
    words = sys.argv[1:] if arguments is None else arguments
    options = vars(parser(config, doc, name).parse_args([_underscored(word) for word in words]))
    show_trace = options.pop("traceback") or bool(os.environ.get("RECSYS_TRACEBACK"))
    given = {k: v for k, v in options.items() if v is not None and v.lower() not in ("", "none")}
    given = {k: None if v.lower() == "never" else v for k, v in given.items()}
    try:
        step(config.checked(given, name))
    except RecsysError as error:
        if show_trace:
            print(redacted(traceback.format_exc()), end="", file=sys.stderr)
        _stop(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _stop("stopped.", 130)
    except Exception as error:
        if show_trace:
            print(redacted(traceback.format_exc()), end="", file=sys.stderr)
        reason = str(error).strip().splitlines() or [type(error).__name__]
        _stop(
            f"error: {name} failed unexpectedly ({type(error).__name__}: {reason[0]}). "
            "Run again with --traceback (or RECSYS_TRACEBACK=1) to see where.",
            1,
        )


def names(text: str | None) -> list[str]:
    """Split a parameter that holds several names, by comma."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _underscored(word: str) -> str:
    """Write an option's name with underscores; a value stays as it is."""
    if not word.startswith("--"):
        return word
    option, equals, value = word[2:].partition("=")
    return f"--{option.replace('-', '_')}{equals}{value}"


def _stop(message: str, code: int) -> None:
    """Leave with one line on standard error."""
    sys.stdout.flush()
    print(redacted(message), file=sys.stderr, flush=True)
    raise SystemExit(code)
