"""Frozen configurations: one class a step or model, unknown keys refused."""

from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.errors import UsageError


class Config(BaseModel):
    """A frozen set of parameters that round-trips through JSON and YAML.

    Fields carry their help text in `Field(description=…)` and their limits in `gt`, `ge`, `le`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def checked(cls, values: dict[str, Any], where: str) -> Self:
        """Build from untrusted values.

        Args:
            values: parameter name → value; strings are converted to the field's type.
            where: what the values came from, for the message.

        Raises:
            UsageError: naming each wrong parameter and what is allowed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UsageError(f"{where}: {_sentence(error, cls)}") from None

    @classmethod
    def from_yaml(cls, text: str, where: str) -> Self:
        """Read a YAML mapping; raises UsageError where it is not one or a key is unknown."""
        try:
            values = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise UsageError(f"{where} must be a YAML mapping of names to values.")
        return cls.checked(values, where)


def _sentence(error: ValidationError, cls: type[BaseModel]) -> str:
    """Say in one sentence what is wrong with each value."""
    parts = []
    for problem in error.errors():
        name = ".".join(str(step) for step in problem["loc"])
        if problem["type"] == "extra_forbidden":
            parts.append(f"unknown parameter {name!r} (known: {', '.join(cls.model_fields)})")
        elif problem["type"] == "missing":
            parts.append(f"parameter {name!r} is missing")
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            parts.append(f"{name}={problem['input']!r} is not usable: {message}")
    return "; ".join(parts) + "."
