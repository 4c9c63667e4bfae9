"""The autoscale formula language, as far as it is documented."""

import math
import operator
import statistics
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.batch_service import wire
from tests.batch_service.samples import Samples
from tests.batch_service.syntax import FormulaError, Tree, parse

ASSIGNABLE = ("$TargetDedicatedNodes", "$TargetLowPriorityNodes", "$NodeDeallocationOption")
OPTIONS = ("requeue", "terminate", "taskcompletion", "retaineddata")
CONSTANTS: dict[str, Any] = {option: option for option in OPTIONS} | {
    "TimeInterval_Zero": timedelta(),
    "TimeInterval_Microsecond": timedelta(microseconds=1),
    "TimeInterval_Millisecond": timedelta(milliseconds=1),
    "TimeInterval_Second": timedelta(seconds=1),
    "TimeInterval_Minute": timedelta(minutes=1),
    "TimeInterval_Hour": timedelta(hours=1),
    "TimeInterval_Day": timedelta(days=1),
    "TimeInterval_Week": timedelta(weeks=1),
    "TimeInterval_Year": timedelta(days=365),
}


class Vector(list[float]):
    """A doubleVec; arithmetic goes element by element."""

    def _with(self, other: Any, do: Callable[[Any, Any], Any], turned: bool = False) -> "Vector":
        others = other if isinstance(other, Vector) else [other] * len(self)
        pairs = zip(self, others, strict=True)
        return Vector(do(b, a) if turned else do(a, b) for a, b in pairs)

    def __add__(self, other: Any) -> "Vector":  # type: ignore[override]
        return self._with(other, operator.add)

    __radd__ = __add__

    def __sub__(self, other: Any) -> "Vector":
        return self._with(other, operator.sub)

    def __rsub__(self, other: Any) -> "Vector":
        return self._with(other, operator.sub, turned=True)

    def __mul__(self, other: Any) -> "Vector":
        return self._with(other, operator.mul)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "Vector":
        return self._with(other, operator.truediv)


def _flat(arguments: list[Any]) -> list[float]:
    """Return a doubleVecList as one list of numbers."""
    values: list[float] = []
    for argument in arguments:
        values.extend(argument if isinstance(argument, Vector) else [argument])
    if not values:
        raise FormulaError("there are no values, such as samples, to compute with")
    return values


def _over(function: Callable[[list[float]], float]) -> Callable[..., float]:
    return lambda *arguments: float(function(_flat(list(arguments))))


def _each(function: Callable[[float], float]) -> Callable[..., Any]:
    def apply(*arguments: Any) -> Any:
        if len(arguments) == 1 and not isinstance(arguments[0], Vector):
            return float(function(arguments[0]))
        return Vector(float(function(value)) for value in _flat(list(arguments)))

    return apply


def _percentile(values: Vector, part: float) -> float:
    ordered = sorted(_flat([values]))
    place = (len(ordered) - 1) * part / 100
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "avg": _over(statistics.fmean),
    "ceil": _each(math.ceil),
    "floor": _each(math.floor),
    "len": lambda *values: float(len(_flat(list(values)))) if values else 0.0,
    "lg": _each(math.log2),
    "ln": _each(math.log),
    "log": _each(math.log10),
    "max": _over(max),
    "min": _over(min),
    "norm": _over(lambda values: math.hypot(*values)),
    "percentile": _percentile,
    "range": _over(lambda values: max(values) - min(values)),
    # Halves go away from zero.
    "round": _each(lambda value: math.copysign(math.floor(abs(value) + 0.5), value)),
    "std": _over(statistics.stdev),
    "sum": _over(sum),
    "val": lambda values, place: values[int(place)],
    "vec": lambda *values: Vector(_flat(list(values))),
}


class _Machine:
    """Evaluates trees."""

    def __init__(
        self,
        variables: dict[str, Any],
        metrics: Mapping[str, float],
        samples: Samples,
        now: datetime,
    ) -> None:
        self.variables = variables
        self.metrics = metrics
        self.samples = samples
        self.now = now

    def value(self, tree: Tree) -> Any:
        kind = tree[0]
        if kind == "value":
            return tree[1]
        if kind == "name":
            return self._name(tree[1])
        if kind == "if":
            return self.value(tree[2] if self.value(tree[1]) else tree[3])
        if kind == "unary":
            found = self.value(tree[2])
            return float(not found) if tree[1] == "!" else -found
        if kind == "binary":
            found = tree[1](self.value(tree[2]), self.value(tree[3]))
            return float(found) if isinstance(found, bool) else found
        if kind == "method":
            return self._method(*tree[1:])
        return self._call(tree[1], [self.value(argument) for argument in tree[2]])

    def _name(self, name: str) -> Any:
        for known in (self.variables, self.metrics, CONSTANTS):
            if name in known:
                return known[name]
        raise FormulaError(f"{name} is not known")

    def _call(self, name: str, arguments: list[Any]) -> Any:
        if name == "time":
            return wire.parse_time(arguments[0]) if arguments else self.now
        if name not in FUNCTIONS:
            raise FormulaError(f"there is no function {name}")
        return FUNCTIONS[name](*arguments)

    def _method(self, owner: Tree, method: str, trees: list[Tree]) -> Any:
        if owner[0] != "name" or owner[1] not in self.metrics:
            raise FormulaError(f"only the service's variables have methods, such as {method}")
        arguments = [self.value(tree) for tree in trees]
        if method == "GetSamplePeriod":
            return self.samples.interval
        begin, end, rest = self._stretch(arguments)
        if method == "GetSamplePercent":
            return self.samples.percent(begin, end)
        if method == "Count":
            return float(len(self.samples.between(owner[1], begin, end)))
        if method != "GetSample":
            raise FormulaError(f"there is no method {method}")
        if isinstance(arguments[0], float):
            return Vector(self.samples.last(owner[1], int(arguments[0])))
        if rest and self.samples.percent(begin, end) < rest[0]:
            raise FormulaError(f"{owner[1]} has fewer than {rest[0]} % of its samples")
        return Vector(self.samples.between(owner[1], begin, end))

    def _stretch(self, arguments: list[Any]) -> tuple[datetime, datetime, list[float]]:
        """Return the time that a method looks at, and what else it was given."""
        ends = [a for a in arguments if isinstance(a, timedelta | datetime)]
        rest = [a for a in arguments if isinstance(a, float)]
        times = [a if isinstance(a, datetime) else self.now - a for a in ends]
        if len(times) > 2 or not arguments:
            raise FormulaError("a sample needs an interval or a number")
        times = times or [self.now - timedelta(days=1)]
        return min(times), max(times) if len(times) == 2 else self.now, rest


def evaluate(
    text: str,
    start: Mapping[str, Any],
    metrics: Mapping[str, float],
    samples: Samples,
    now: datetime,
) -> dict[str, Any]:
    """Compute a formula.

    Args:
        text: the formula.
        start: values of the targets before it.
        metrics: the service's variables as they are now.
        samples: and as they were.
        now: the service's time.

    Returns:
        The targets, and the formula's own variables after them.

    Raises:
        FormulaError: it cannot be read or computed.
    """
    machine = _Machine(dict(start), metrics, samples, now)
    for statement in parse(text):
        if statement[0] == "stop":
            break
        name, tree = statement[1:]
        if name.startswith("$") and name in metrics:
            raise FormulaError(f"{name} is read-only")
        try:
            machine.variables[name] = _assigned(name, machine.value(tree))
        except (TypeError, ValueError, ArithmeticError, IndexError, wire.BatchError) as error:
            raise FormulaError(f"{name} cannot be computed: {error}") from None
    return machine.variables


def _assigned(name: str, value: Any) -> Any:
    """Return a value as the variable takes it."""
    if name == "$NodeDeallocationOption":
        if value not in OPTIONS:
            raise FormulaError(f"{name} is one of {', '.join(OPTIONS)}")
    elif name in ASSIGNABLE:
        if isinstance(value, Vector) and len(value) == 1:
            value = value[0]
        if not isinstance(value, float | int) or value < 0:
            raise FormulaError(f"{name} must be a number from 0")
        return int(value)
    return value


def results(variables: Mapping[str, Any]) -> str:
    """Return the variables as an autoScaleRun shows them."""
    return ";".join(f"{name}={_shown(value)}" for name, value in variables.items())


def targets(text: str) -> dict[str, str]:
    """Return the targets out of an autoScaleRun's results."""
    pairs = dict(part.split("=", 1) for part in text.split(";"))
    return {name: pairs[name] for name in ASSIGNABLE}


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return wire.timestamp(value.astimezone(UTC))
    if isinstance(value, timedelta):
        return wire.duration(value)
    if isinstance(value, Vector):
        return f"[{','.join(map(_shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
