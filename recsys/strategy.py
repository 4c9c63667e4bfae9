"""What a campaign may recommend to whom."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from recsys.config import Config
from recsys.errors import UsageError

Seen = Literal["exclude", "allow"]


class Strategy(Config):
    """One marketing strategy, written as a YAML file."""

    name: str = Field(description="the strategy's name, written in every row")
    description: str = Field("", description="what it is for, in a sentence")
    seen: Seen = Field(
        "exclude", description="items that the customer has bought: exclude or allow them"
    )
    k: int = Field(10, ge=1, description="recommendations a customer")


def load_strategy(name: str, folder: Path) -> Strategy:
    """Read a strategy by its name in `folder`, or by the path of a YAML file.

    Raises:
        UsageError: there is no such strategy, or it holds an unknown key or a wrong value.
    """
    file = folder / f"{name}.yaml" if not name.endswith((".yaml", ".yml")) else Path(name)
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise UsageError(f"There is no strategy {name!r}: use {known}, or a path to a YAML file.")
    return Strategy.from_yaml(file.read_text("utf-8"), str(file))
