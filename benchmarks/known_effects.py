"""Experiments of which the true effect is known, for the proof of the statistics.

A simulated retailer goes on for four weeks, with a campaign and without, so that of each customer
both outcomes are known. These customers are the population: an experiment draws some of them,
gives each an arm, and shows the statistics only the outcome of that arm. The true effect is the
difference of the population's means (ratios, shares), and the experiments count how often the
interval holds it. Where nobody is treated (A/A), an interval without 0 is a false alarm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from benchmarks.population import SEED, Population
from recsys.effects.effect import (
    Effect,
    Flags,
    Values,
    cuped_effect,
    mean_effect,
    proportion_effect,
    ratio_effect,
)
from recsys.effects.power import imbalance_plan, planned
from recsys.effects.sample_ratio import sample_ratio
from recsys.hold_out import held_out
from recsys.strategy import HoldOut

POWER = 0.8


Seen = Callable[[dict[str, Values], dict[str, Values], Flags], Effect]


@dataclass(frozen=True)
class Metric:
    """A metric: how an experiment computes it, and what it truly is for outcomes."""

    name: str
    seen: Seen
    true: Callable[[dict[str, Values]], float]


METRICS = (
    Metric(
        "sales a customer",
        lambda now, _, arm: mean_effect(now["sales"], arm),
        lambda of: float(of["sales"].mean()),
    ),
    Metric(
        "sales a customer",
        lambda now, before, arm: cuped_effect(now["sales"], before["sales"], arm),
        lambda of: float(of["sales"].mean()),
    ),
    Metric(
        "orders a customer",
        lambda now, _, arm: mean_effect(now["orders"], arm),
        lambda of: float(of["orders"].mean()),
    ),
    Metric(
        "orders a customer",
        lambda now, before, arm: cuped_effect(now["orders"], before["orders"], arm),
        lambda of: float(of["orders"].mean()),
    ),
    Metric(
        "sales an order",
        lambda now, _, arm: ratio_effect(now["sales"], now["orders"], arm),
        lambda of: float(of["sales"].sum() / of["orders"].sum()),
    ),
    Metric(
        "churn (no order)",
        lambda now, _, arm: proportion_effect(now["orders"] == 0, arm),
        lambda of: float((of["orders"] == 0).mean()),
    ),
    Metric(
        "conversion (a recommended item)",
        lambda now, _, arm: proportion_effect(now["converted"] > 0, arm),
        lambda of: float((of["converted"] > 0).mean()),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What the experiments found of one metric in one design.

    Attributes:
        metric: its name.
        method: how it was computed.
        customers: of an experiment.
        control_share: share that was held out.
        true: the effect.
        mean: of the estimates.
        coverage: share of intervals that hold the true effect.
        above: share of intervals that lie above it.
        below: share that lie below it.
        false_alarms: share of A/A experiments whose interval leaves 0 out.
        power: share of experiments whose interval leaves 0 out.
        reduction: share of variance that CUPED took away, as it says itself; mean over A/A.
        reduction_found: the same from the spread of the A/A estimates beside those without CUPED.
        reduction_theory: ρ² of before and after in the population.
    """

    metric: str
    method: str
    customers: int
    control_share: float
    true: float
    mean: float
    coverage: float
    above: float
    below: float
    false_alarms: float
    power: float
    reduction: float | None = None
    reduction_found: float | None = None
    reduction_theory: float | None = None


@dataclass(frozen=True)
class Planned:
    """What became of a plan.

    Attributes:
        metric: its name.
        method: how it was computed.
        effect: relative, as planned, and as it truly is.
        customers: that the plan asks for, half of them held out.
        power: that was planned.
        found: share of experiments of that size whose interval leaves 0 out.
    """

    metric: str
    method: str
    effect: float
    customers: int
    power: float
    found: float


@dataclass(frozen=True)
class Ratios:
    """What the check of the sample ratio found at one planned size.

    Attributes:
        control_share: that was meant.
        customers: in both arms.
        planned_power: how often the imbalance was to be caught.
        caught: share of experiments with the imbalance that it called broken.
        false_alarms: share of sound ones that it called broken.
    """

    control_share: float
    customers: int
    planned_power: float
    caught: float
    false_alarms: float


def experiments(
    people: Population,
    customers: int,
    control_share: float,
    count: int,
    seed: int = SEED,
    metrics: Sequence[Metric] = METRICS,
) -> list[Line]:
    """Run experiments of one design, each once with the effect and once without.

    Args:
        people: the population, drawn from with replacement.
        customers: of each experiment.
        control_share: share that is held out, by the salted hash of the platform.
        count: number of experiments.
        seed: of the draws.
        metrics: what to compute; CUPED after the same without.
    """
    random = np.random.default_rng([seed, customers, round(1000 * control_share)])
    ids = pa.array([f"{i + 1:010d}" for i in range(customers)])
    found: list[list[Effect]] = [[] for _ in metrics]
    null: list[list[Effect]] = [[] for _ in metrics]
    for number in range(count):
        hold_out = HoldOut(share=control_share, salt=f"experiment {seed} {number}")
        treated = ~held_out(hold_out, ids)
        chosen = random.integers(0, len(people.before["sales"]), customers)
        for is_null, effects in ((False, found), (True, null)):
            now, before = people.drawn(chosen, treated, is_null)
            for place, metric in enumerate(metrics):
                effects[place].append(metric.seen(now, before, treated))
    return [
        _line(people, metric, customers, control_share, found[place], null[place], null[place - 1])
        for place, metric in enumerate(metrics)
    ]


def _line(
    people: Population,
    metric: Metric,
    customers: int,
    control_share: float,
    found: list[Effect],
    null: list[Effect],
    plain_null: list[Effect],
) -> Line:
    """Summarise one metric; `plain_null` are the A/A effects of the metric without CUPED."""
    true = metric.true(people.treated) - metric.true(people.control)
    low, high = (np.array([getattr(e, end) for e in found]) for end in ("low", "high"))
    reductions = {}
    if found[0].method == "CUPED":
        name = metric.name.split()[0]
        spread = [np.var([e.difference for e in effects]) for effects in (null, plain_null)]
        rho = np.corrcoef(people.before[name], people.control[name])[0, 1]
        reductions = {
            "reduction": float(np.mean([e.variance_reduction for e in null])),
            "reduction_found": float(1 - spread[0] / spread[1]),
            "reduction_theory": float(rho**2),
        }
    return Line(
        metric=metric.name,
        method=found[0].method,
        customers=customers,
        control_share=control_share,
        true=true,
        mean=float(np.mean([e.difference for e in found])),
        coverage=float(np.mean((low <= true) & (true <= high))),
        above=float(np.mean(low > true)),
        below=float(np.mean(high < true)),
        false_alarms=float(np.mean([e.significant for e in null])),
        power=float(np.mean([e.significant for e in found])),
        **reductions,
    )


def plans(people: Population, count: int, seed: int = SEED) -> list[Planned]:
    """Plan tests that find the population's own effect, and count how many of that size do.

    Args:
        people: the population; a plan knows its control customers, as a retailer knows the past.
        count: number of experiments a plan.
        seed: of the draws.
    """
    found = []
    for name in ("sales", "orders"):
        without = people.control[name]
        mean, sd = float(without.mean()), float(without.std())
        effect = float(people.treated[name].mean()) / mean - 1
        rho = float(np.corrcoef(people.before[name], without)[0, 1])
        for method, correlation in (("Welch", 0.0), ("CUPED", rho)):
            plan = planned(mean, sd, effect, 0.5, correlation, POWER)
            chosen = [m for m in METRICS if m.name == f"{name} a customer"]
            lines = experiments(people, plan.customers, 0.5, count, seed, chosen)
            line = next(line for line in lines if line.method == method)
            found.append(Planned(line.metric, method, effect, plan.customers, POWER, line.power))
    return found


def ratios(
    control_share: float, count: int, false_count: int, seed: int = SEED, power: float = POWER
) -> Ratios:
    """Lose 1 % of the control customers at the planned size, and none, again and again.

    Args:
        control_share: that is meant.
        count: experiments with the imbalance.
        false_count: experiments without.
        seed: of the draws.
        power: that is planned.
    """
    random = np.random.default_rng([seed, round(1000 * control_share)])
    plan = imbalance_plan(control_share, 0.01, power)
    left = control_share * 0.99 / (1 - control_share * 0.01)
    broken = [
        np.mean(
            [
                sample_ratio(plan.customers - int(control), int(control), control_share).broken
                for control in random.binomial(plan.customers, share, times)
            ]
        )
        for share, times in ((left, count), (control_share, false_count))
    ]
    return Ratios(control_share, plan.customers, power, float(broken[0]), float(broken[1]))
