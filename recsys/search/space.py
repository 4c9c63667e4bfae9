"""Where a search looks: each recommender's hyperparameters, their ranges, scales and conditions.

A point of the space is what hyperopt works with: label → position. A range's position is a number
on its scale (the logarithm on a log scale), a choice's position is the number of its value, and
only parameters whose condition holds have one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import exp, log
from typing import Any

from hyperopt import hp

from recsys.models import ALGORITHMS
from recsys.models.base import Hyperparameters

Point = dict[str, float]
Value = float | int | str | bool | None
ALGORITHM = "algorithm"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; whole ones only, or on a log scale, where it says so."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest position; whole numbers have a unit each, like their mass."""
        half = 0.5 if self.whole else 0.0
        low, high = self.low - half, self.high + half
        return (log(low), log(high)) if self.log else (low, high)

    def value_at(self, position: float) -> Value:
        """Return the number at a position."""
        value = exp(position) if self.log else position
        # Six digits: what a person can read, and type again.
        value = round(value) if self.whole else float(f"{value:.6g}")
        value = min(max(value, self.low), self.high)
        return int(value) if self.whole else float(value)

    def position_of(self, value: Value) -> float | None:
        """Return a number's position; None where it lies outside."""
        if isinstance(value, str) or value is None or not self.low <= value <= self.high:
            return None
        return log(value) if self.log else float(value)

    def span(self, position: float) -> float:
        """Return where a position lies between the ends, 0 … 1."""
        low, high = self.ends
        return (position - low) / (high - low)


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]

    def value_at(self, position: float) -> Value:
        """Return the value of a number."""
        return self.values[int(position)]

    def position_of(self, value: Value) -> float | None:
        """Return a value's number; None where it is not among them."""
        return float(self.values.index(value)) if value in self.values else None

    def span(self, position: float) -> float:
        """Return where a value lies among all, 0 … 1."""
        return position / max(1, len(self.values) - 1)


@dataclass(frozen=True)
class Condition:
    """A parameter is searched only where the choice `name` takes one of these values."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter that is searched."""

    name: str
    domain: Range | Choice
    when: Condition | None = None


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        parameters: recommender → its parameters; with several recommenders, which one is searched
            as well.
    """

    parameters: Mapping[str, tuple[Parameter, ...]]
    labels: Mapping[str, tuple[str, Parameter]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the labels."""
        labels = {
            label_of(algorithm, parameter.name): (algorithm, parameter)
            for algorithm, parameters in self.parameters.items()
            for parameter in parameters
        }
        object.__setattr__(self, "labels", labels)

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The recommenders' names."""
        return tuple(self.parameters)

    def expression(self) -> Any:
        """Return the space as hyperopt knows it: parameters with a condition hang in its branch."""
        branches = [_expression(name, self.parameters[name]) for name in self.algorithms]
        return branches[0] if len(branches) == 1 else hp.choice(ALGORITHM, branches)

    def chosen(self, point: Point) -> tuple[str, Hyperparameters]:
        """Return the recommender and the hyperparameters of a point; the others have defaults."""
        algorithm = self.algorithms[int(point.get(ALGORITHM, 0))]
        values = {
            parameter.name: parameter.domain.value_at(point[label])
            for label, (of, parameter) in self.labels.items()
            if of == algorithm and label in point
        }
        return algorithm, ALGORITHMS[algorithm].parameters_class(**values)

    def point_of(self, algorithm: str, parameters: Hyperparameters) -> Point | None:
        """Return the point of some hyperparameters; None where they lie outside the space."""
        if algorithm not in self.parameters:
            return None
        values = parameters.model_dump()
        active = self._active(algorithm, values)
        point = {label_of(algorithm, p.name): p.domain.position_of(values[p.name]) for p in active}
        if len(self.algorithms) > 1:
            point[ALGORITHM] = float(self.algorithms.index(algorithm))
        # What is not searched must be what the search leaves it at.
        searched = {parameter.name for parameter in active}
        defaults = type(parameters)().model_dump()
        if any(defaults[name] != values[name] for name in set(values) - searched):
            return None
        inside = {label: position for label, position in point.items() if position is not None}
        return inside if len(inside) == len(point) else None

    def largest(self, algorithm: str) -> Hyperparameters:
        """Return a recommender's hyperparameters with every range at its upper end."""
        ends = {
            p.name: p.domain.value_at(p.domain.ends[1])
            for p in self.parameters[algorithm]
            if isinstance(p.domain, Range)
        }
        return ALGORITHMS[algorithm].parameters_class(**ends)

    def described(self) -> dict[str, Any]:
        """Return the space as plain data."""
        return {
            algorithm: {parameter.name: asdict(parameter) for parameter in parameters}
            for algorithm, parameters in self.parameters.items()
        }

    def _active(self, algorithm: str, values: Mapping[str, Any]) -> list[Parameter]:
        """Return the parameters whose conditions hold under some values."""
        active: dict[str, Parameter] = {}
        waiting = list(self.parameters[algorithm])
        # A condition may hang on a choice that has a condition itself.
        for _ in waiting:
            for parameter in waiting:
                when = parameter.when
                if when is None or (when.name in active and values[when.name] in when.values):
                    active[parameter.name] = parameter
        return [p for p in waiting if p.name in active]


def label_of(algorithm: str, name: str) -> str:
    """Name a parameter among those of all recommenders."""
    return f"{algorithm}.{name}"


def _expression(algorithm: str, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """Return one recommender's parameters as hyperopt knows them."""
    made: dict[str, Any] = {}

    def node(parameter: Parameter) -> Any:
        # One node a label, also where it hangs in several branches.
        label = label_of(algorithm, parameter.name)
        if label not in made:
            if isinstance(parameter.domain, Range):
                made[label] = hp.uniform(label, *parameter.domain.ends)
            else:
                values = parameter.domain.values
                made[label] = hp.choice(label, [branch(parameter.name, value) for value in values])
        return made[label]

    def branch(name: str, value: Value) -> dict[str, Any]:
        return {
            p.name: node(p)
            for p in parameters
            if p.when is not None and p.when.name == name and value in p.when.values
        }

    return {p.name: node(p) for p in parameters if p.when is None}
