"""The command line of a benchmark: its module's docstring is its help."""

import argparse


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a module's docstring as it is written.

    Args:
        name: of the module within `benchmarks`.
        doc: the module's docstring.
    """
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
