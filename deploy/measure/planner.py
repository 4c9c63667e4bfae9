"""How many customers, or days, the next campaign needs to show an effect."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.measure import outcomes as o
from deploy.measure.observed import Observed
from recsys.effects.power import Plan, planned, planned_share
from recsys.progress import say

EFFECTS = (0.01, 0.02, 0.05, 0.1)
# Where nobody was held out, the plan is for this share.
USUAL_SHARE = 0.1
SALES, CHURN = "sales per customer", "churn"


@dataclass(frozen=True)
class Baseline:
    """What a plan starts from.

    Attributes:
        customers: in the audience.
        days: length of the window.
        control_share: share to hold out.
        mean: sales a customer in the window.
        spread: their standard deviation.
        correlation: of a customer's sales in the window with those before, which CUPED uses.
        churn: share of the active customers who did not order; None where nobody was active.
        active_share: share of the audience that can churn.
    """

    customers: int
    days: int
    control_share: float
    mean: float
    spread: float
    correlation: float
    churn: float | None
    active_share: float


def baseline(observed: Observed, days: int, control_share: float) -> Baseline | None:
    """Take the start of a plan from what customers did; None where nobody bought anything.

    All customers count, of both arms: an effect of a few percent moves neither mean nor spread by
    more than that.

    Args:
        observed: the customers.
        days: of the window that was observed.
        control_share: share that was held out.
    """
    sales, before = (
        np.asarray(observed.values(name), dtype=np.float64) for name in (o.SALES, o.before(o.SALES))
    )
    if len(sales) < 2 or sales.mean() <= 0 or sales.std() == 0:
        return None
    correlation = float(np.corrcoef(sales, before)[0, 1]) if before.std() > 0 else 0.0
    active = np.asarray(observed.values(o.ACTIVE), dtype=bool)
    stayed = np.asarray(observed.values(o.ORDERS) > 0)
    return Baseline(
        customers=len(sales),
        days=days,
        control_share=control_share or USUAL_SHARE,
        mean=float(sales.mean()),
        spread=float(sales.std(ddof=1)),
        correlation=min(correlation, 0.999),
        churn=float((~stayed[active]).mean()) if active.any() else None,
        active_share=float(active.mean()),
    )


@dataclass(frozen=True)
class Planned:
    """What an effect needs.

    Attributes:
        metric: what it is an effect on.
        plan: customers, and days.
        enough: the present audience shows it in the present window.
    """

    metric: str
    plan: Plan
    enough: bool


def plans(start: Baseline, effects: Sequence[float] = EFFECTS) -> list[Planned]:
    """Plan tests of relative effects on sales per customer, and on churn (which is to fall).

    Days are those for which the present audience would have to be followed. They take customers
    and days for exchangeable: what the time before does not explain is new each day.
    """
    found = []
    a_day = start.customers / start.days
    for effect in effects:
        plan = planned(
            start.mean,
            start.spread,
            effect,
            start.control_share,
            start.correlation,
            customers_a_day=a_day,
        )
        found.append(Planned(SALES, plan, plan.customers <= start.customers))
    if start.churn is None or not 0 < start.churn < 1:
        return found
    for effect in effects:
        # Of a longer window churn is another quantity, so no days are told.
        plan = planned_share(start.churn, -effect, start.control_share)
        enough = plan.customers <= start.customers * start.active_share
        found.append(Planned(CHURN, plan, enough))
    return found


def told(one: Planned, start: Baseline) -> str:
    """Say what an effect needs, in a sentence."""
    plan = one.plan
    what = f"{plan.effect:+.0%} {one.metric}" if abs(plan.effect) >= 0.01 else f"{plan.effect:+.1%}"
    active = " active" if one.metric == CHURN else ""
    need = f"{plan.customers:,}{active} customers ({plan.control:,} held out) for {start.days} days"
    longer = f", or these customers for {plan.days:,} days" if plan.days and not one.enough else ""
    return f"{what.replace('-', '−')}: {need}{longer}{' (there are enough)' * one.enough}"


def show(strategy: str, start: Baseline | None, effects: Sequence[float]) -> None:
    """Print the plan of a strategy."""
    if start is None:
        say(f"  {strategy}: nobody of the audience bought anything, so nothing can be planned")
        return
    say(
        f"  {strategy}: {start.customers:,} customers spend {start.mean:,.2f} each in {start.days} "
        f"days (standard deviation {start.spread:,.2f}, correlation with the time before "
        f"{start.correlation:.2f}), {start.control_share:.0%} held out"
    )
    for one in plans(start, effects):
        say(f"    {told(one, start)}")
