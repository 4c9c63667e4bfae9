"""How every page that the registry writes is made: from a template, without network."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def template(file: Path, filters: Mapping[str, Callable[..., Any]]) -> Template:
    """Read a page's template; what it is given is escaped, and what it is not given fails.

    Args:
        file: the template.
        filters: name → function, for use in it.
    """
    environment = Environment(
        loader=FileSystemLoader(file.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= dict(filters)
    return environment.get_template(file.name)
