"""Read a space from YAML; what is wrong in it is refused with its line.

algorithm: item_item
parameters:
  similarity: {type: choice, values: [cosine, lift]}
  neighbours: {type: int, low: 20, high: 500, scale: log}
  shrink: {type: float, low: 0, high: 100, when: {similarity: [cosine]}}
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NoReturn

import yaml
from pydantic import Field, ValidationError

from recsys.config import Config
from recsys.errors import UsageError
from recsys.models import ALGORITHMS
from recsys.search.space import Choice, Condition, Parameter, Range, Space, Value

Place = tuple[str | int, ...]


class _Parameter(Config):
    """One parameter as it is written."""

    type: Literal["int", "float", "choice"] = Field(description="kind of value")
    low: float | None = Field(None, allow_inf_nan=False, description="lowest number")
    high: float | None = Field(None, allow_inf_nan=False, description="highest number")
    scale: Literal["linear", "log"] = Field("linear", description="how numbers are spread")
    values: tuple[Value, ...] = Field((), description="of a choice; null for never")
    when: dict[str, tuple[Value, ...]] = Field(
        {}, description="a choice and the values of it with which this parameter is searched"
    )


class _File(Config):
    """A file as it is written."""

    algorithm: str = Field(description="name of the recommender")
    parameters: dict[str, _Parameter] = Field(min_length=1, description="name → where to look")


def read_spaces(files: Mapping[str, Path]) -> Space:
    """Read one file a recommender.

    Args:
        files: recommender → its file.

    Raises:
        UsageError: a file cannot be read, is for another recommender, or holds what cannot be
            searched; the message names file and line.
    """
    return Space({name: _read(file, name) for name, file in files.items()})


def algorithm_of(file: Path) -> str:
    """Return the recommender that a file is for; raises UsageError where it names none."""
    return _Source(file).content.algorithm


def _read(file: Path, algorithm: str) -> tuple[Parameter, ...]:
    source = _Source(file)
    if source.content.algorithm != algorithm:
        source.refuse(
            f"this space is for {source.content.algorithm}, not for {algorithm}", ("algorithm",)
        )
    written = source.content.parameters
    for name, parameter in written.items():
        _check(source, algorithm, name, parameter)
    for name in written:
        _check_circle(source, name)
    return tuple(
        Parameter(
            name,
            _domain(parameter),
            *(Condition(on, values) for on, values in parameter.when.items()),
        )
        for name, parameter in written.items()
    )


class _Source:
    """A file's content, and which line each part of it stands in."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            text = file.read_text("utf-8")
            root = yaml.compose(text, yaml.SafeLoader)
            values = yaml.safe_load(text)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read as a space: {error}.") from None
        except yaml.YAMLError as error:
            raise UsageError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
        self.lines: dict[Place, int] = {}
        for place, line in _lines(root):
            if place in self.lines:
                self.lines[place] = line
                self.refuse(f"{place[-1]} is there twice", place)
            self.lines[place] = line
        if not isinstance(values, dict):
            self.refuse("a space is a mapping with `algorithm` and `parameters`", ())
        try:
            self.content = _File.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            place = problem["loc"]
            said = problem["msg"][0].lower() + problem["msg"][1:]
            if problem["type"] == "extra_forbidden":
                said = f"unknown word {place[-1]!r}"
            elif problem["type"] == "missing":
                said = f"{place[-1]!r} is missing"
            self.refuse(said, place)

    def refuse(self, why: str, place: Place) -> NoReturn:
        """Raise UsageError that names the line of a place, or of the nearest thing around it."""
        while place and place not in self.lines:
            place = place[:-1]
        # A parameter's own name stands behind the word `parameters`.
        name = f"{place[1]}: " if place[:1] == ("parameters",) and len(place) > 1 else ""
        raise UsageError(f"{self.file}, line {self.lines.get(place, 1)}: {name}{why}.")


def _lines(node: yaml.Node | None, place: Place = ()) -> Iterator[tuple[Place, int]]:
    """Yield every place in a document with its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inside = (*place, key.value)
            yield inside, key.start_mark.line + 1
            yield from _lines(value, inside)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*place, number), value.start_mark.line + 1
            yield from _lines(value, (*place, number))


def _check(source: _Source, algorithm: str, name: str, parameter: _Parameter) -> None:
    """Refuse a parameter that cannot be searched."""
    place: Place = ("parameters", name)
    fields = ALGORITHMS[algorithm].parameters_class.model_fields
    if name not in fields:
        source.refuse(
            f"{algorithm} has no such hyperparameter (it has {', '.join(sorted(fields))})", place
        )
    if parameter.type == "choice":
        _check_choice(source, place, parameter)
    else:
        _check_range(source, place, parameter)
    domain = _domain(parameter)
    tried = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
    for value in tried:
        if isinstance(domain, Range) and domain.whole:
            value = int(value or 0)
        try:
            ALGORITHMS[algorithm].parameters_class.checked({name: value}, algorithm)
        except UsageError as error:
            source.refuse(str(error).rstrip("."), place)
    _check_condition(source, place, parameter)


def _check_choice(source: _Source, place: Place, parameter: _Parameter) -> None:
    if parameter.low is not None or parameter.high is not None or parameter.scale != "linear":
        source.refuse("a choice has `values`, no low, high or scale", place)
    if len(set(parameter.values)) < 2:
        source.refuse("a choice needs at least two different `values`", place)
    if len(set(parameter.values)) < len(parameter.values):
        source.refuse("a value is there twice", (*place, "values"))


def _check_range(source: _Source, place: Place, parameter: _Parameter) -> None:
    if parameter.values:
        source.refuse("only a choice has `values`; a number has low and high", (*place, "values"))
    if parameter.low is None or parameter.high is None:
        source.refuse("a number needs low and high", place)
    if not parameter.low < parameter.high:
        source.refuse(
            f"the range is empty: low={parameter.low:g} is not below high={parameter.high:g}",
            (*place, "low"),
        )
    if parameter.scale == "log" and parameter.low <= 0:
        source.refuse("a log scale needs low above 0", (*place, "low"))
    if parameter.type == "int" and not (parameter.low.is_integer() and parameter.high.is_integer()):
        source.refuse("low and high of an int must be whole numbers", (*place, "low"))


def _check_condition(source: _Source, place: Place, parameter: _Parameter) -> None:
    """Refuse a condition that can never hold."""
    place = (*place, "when")
    if len(parameter.when) > 1:
        source.refuse("a condition names one choice", place)
    for on, values in parameter.when.items():
        other = source.content.parameters.get(on)
        if other is None:
            source.refuse(f"its condition names {on!r}, which is not searched", (*place, on))
        if other.type != "choice":
            source.refuse(f"its condition names {on!r}, which is no choice", (*place, on))
        if strange := [value for value in values if value not in other.values]:
            source.refuse(f"its condition can never hold: {on} is never {strange[0]}", (*place, on))
        if not values:
            source.refuse("its condition names no value", (*place, on))


def _check_circle(source: _Source, name: str) -> None:
    """Refuse conditions that wait for each other."""
    seen: list[str] = []
    on: str | None = name
    while on is not None:
        if on in seen:
            source.refuse(
                f"its condition can never hold: {' waits for '.join([*seen, on])}",
                ("parameters", name, "when"),
            )
        seen.append(on)
        on = next(iter(source.content.parameters[on].when), None)


def _domain(parameter: _Parameter) -> Range | Choice:
    if parameter.type == "choice":
        return Choice(parameter.values)
    low, high = parameter.low or 0.0, parameter.high or 0.0
    return Range(low, high, parameter.scale == "log", parameter.type == "int")
