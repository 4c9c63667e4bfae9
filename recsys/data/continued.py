"""A simulated retailer goes on after a campaign whose effect is known."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from recsys import columns as c
from recsys.data.aftermath import aftermath
from recsys.data.market import Flags, Floats, Ints
from recsys.data.replace import content_of, replaced
from recsys.data.response import Lists, Span, Treatment
from recsys.data.simulate import MARKER as EARLIER
from recsys.data.simulate import SimulateConfig, Simulation, digest_of, trade
from recsys.data.till import Till, plant, write_months
from recsys.errors import UsageError
from recsys.hold_out import CONTROL, TREATMENT
from recsys.published import AUDIENCE, RECOMMENDATIONS, published_table, read_manifest
from recsys.storage import filled, place_of, read_file

MARKER, CUSTOMERS = "truth/campaign.json", "truth/campaign.parquet"


class ContinueConfig(SimulateConfig):
    """What to simulate; with `continues`, the days that follow a campaign."""

    continues: str | None = Field(
        None, description="an earlier simulation to go on with, whose market this then is"
    )
    recommendations: str | None = Field(
        None, description="what batch_score published to its customers; with continues"
    )
    commit: int | None = Field(None, ge=1, description="number of the commit; none: the newest")
    after_days: int = Field(28, ge=1, description="days of trading after the campaign")
    effect: float = Field(0.1, ge=0, le=10, description="lift of treated customers' orders")
    basket_effect: float = Field(0.0, ge=0, le=10, description="lift of what an order is worth")
    churn_effect: float = Field(0.0, ge=0, le=1, description="fall of the share who stop coming")
    churn: float = Field(0.1, ge=0, lt=1, description="share of customers who stop in these days")
    recommended_share: float = Field(
        0.5, ge=0, le=1, description="share of added orders' lines that were recommended"
    )


Change = dict[str, float | None]
# What belongs to the retailer, and so to the simulation that is continued.
RETAILER = set(SimulateConfig.model_fields) - {"output", "seed"}


@dataclass(frozen=True)
class Published:
    """A campaign as it was published: the audience's customers, who was treated, and the lists."""

    commit: int
    customer: Ints
    treated: Flags
    lists: Lists


def continued(config: ContinueConfig) -> Simulation:
    """Write the transactions of the days after a campaign and their truth; as `simulate`.

    The same customers and prices; receipts are numbered on. Who left stays away, others stop or
    arrive. Treated customers order more often by `effect`, an order of theirs is worth more by
    `basket_effect`, and fewer of them stop by `churn_effect`.

    Raises:
        UsageError: no earlier simulation, a parameter that is the earlier one's, or customers who
            are not the simulation's.
        DataError: nothing was published.
    """
    earlier = _earlier(config)
    published = _published(config, earlier)
    seeds = np.random.SeedSequence(config.seed, spawn_key=(4,)).spawn(3)
    market, purchases = trade(earlier)
    treated = np.zeros(earlier.customers, dtype=bool)
    treated[published.customer] = published.treated
    after = aftermath(
        earlier,
        market,
        purchases,
        Span(earlier.days, config.after_days, earlier.start.timetuple().tm_yday),
        config.churn,
        Treatment(
            treated,
            published.lists,
            config.effect,
            config.basket_effect,
            config.churn_effect,
            config.recommended_share,
        ),
        seeds[0],
    )
    till = Till(market, after.purchases, earlier.start, np.random.default_rng(seeds[1]))
    faults = plant(after.purchases, earlier.bad_share, np.random.default_rng(seeds[2]))
    output = place_of(config.output)
    with replaced(output, MARKER) as fresh, filled(fresh) as folder:
        rows = write_months(till, faults, folder)
        (folder / "truth").mkdir()
        table = _customers(published, after.totals(market.pence, till.promoted))
        pq.write_table(table, folder / CUSTOMERS)
        spoilt = {str(reason): len(chosen) for reason, chosen in faults.items()}
        planted = spoilt | after.purchases.planted
        result = Simulation(
            output=output,
            rows=rows,
            guest_rows=int((after.purchases.customer < 0).sum()),
            planted={reason: n for reason, n in planted.items() if n},
            digest=digest_of(folder),
        )
        description = _description(config, earlier, published, result)
        description["expected"] = expected(after.rates[published.customer], config)
        description["treated"] = _summary(table)
        (folder / MARKER).write_text(json.dumps(description, indent=2) + "\n", "utf-8")
    return result


def expected(rates: Floats, config: ContinueConfig) -> dict[str, Change]:
    """Return what the parameters come to on average, were all treated, or none.

    Who stops does so at a time that is as likely as any other, and so makes half of the orders.
    Orders are before returns. `silent_share` is the share of customers without an order.

    Args:
        rates: float64 [customers], orders expected of each who does not stop.
        config: the effect.
    """
    orders, silent = [], []
    treated = (1 + config.effect, config.churn * (1 - config.churn_effect))
    for lift, stop in ((1.0, config.churn), treated):
        rate = rates * lift
        orders.append(float(np.mean(rate) * (1 - stop / 2)))
        # The mean of exp(−rate · u) over u in 0 … 1 is (1 − exp(−rate)) / rate.
        until_stop = np.where(rate > 0, -np.expm1(-rate) / np.where(rate > 0, rate, 1), 1.0)
        silent.append(float(np.mean((1 - stop) * np.exp(-rate) + stop * until_stop)))
    return {"orders_per_customer": _change(*orders), "silent_share": _change(*silent)}


def _change(without: float, treated: float) -> Change:
    return {
        "without": without,
        "with": treated,
        "difference": treated - without,
        "relative": treated / without - 1 if without else None,
    }


def _customers(published: Published, totals: dict[str, Floats]) -> pa.Table:
    """Return what each customer of the audience did, and would have done without the campaign."""
    columns = {
        c.CUSTOMER_ID: [f"{i + 1:010d}" for i in published.customer],
        c.ARM: np.where(published.treated, TREATMENT, CONTROL),
    }
    return pa.table(columns | {n: values[published.customer] for n, values in totals.items()})


def _summary(customers: pa.Table) -> dict[str, Change]:
    """Return what the campaign did to the treated customers, returns taken off."""
    chosen = customers.filter(pc.equal(customers[c.ARM], TREATMENT))
    found = []
    for name in ("_without", ""):
        orders = chosen[f"orders{name}"].to_numpy()
        sales = chosen[f"sales{name}"].to_numpy()
        found.append(
            {
                "orders_per_customer": float(orders.mean()),
                "sales_per_customer": float(sales.mean()),
                "sales_per_order": float(sales.sum() / orders.sum()) if orders.any() else 0.0,
                "silent_share": float((orders == 0).mean()),
            }
        )
    return {name: _change(found[0][name], found[1][name]) for name in found[0]}


def _description(
    config: ContinueConfig, earlier: SimulateConfig, published: Published, result: Simulation
) -> dict[str, Any]:
    """Return the parameters, and what a correct ingest finds."""
    names = set(ContinueConfig.model_fields) - set(SimulateConfig.model_fields)
    kept = (names | {"seed"}) - {"continues", "recommendations", "commit"}
    treated = int(published.treated.sum())
    return {
        "parameters": config.model_dump(mode="json", include=kept),
        "retailer": earlier.model_dump(mode="json", exclude={"output"}),
        "commit": published.commit,
        "first_day": str(earlier.start + timedelta(days=earlier.days)),
        "arms": {TREATMENT: treated, CONTROL: len(published.treated) - treated},
        "rows": result.rows,
        "guest_rows": result.guest_rows,
        "planted": result.planted,
        "digest": result.digest,
    }


def _earlier(config: ContinueConfig) -> SimulateConfig:
    """Return what the earlier simulation was drawn by."""
    if config.continues is None or config.recommendations is None:
        raise UsageError("give continues and recommendations together: which simulation goes on, "
                         "and what was recommended to its customers.")  # fmt: skip
    fields = SimulateConfig.model_fields
    changed = sorted(n for n in RETAILER if getattr(config, n) != fields[n].default)
    if changed:
        raise UsageError(
            f"{', '.join(changed)}: the earlier simulation's stay in force, leave them out."
        )
    data = read_file(content_of(config.continues) / EARLIER)
    if data is None:
        raise UsageError(f"{config.continues} is no simulation (it has no {EARLIER}).")
    parameters = json.loads(data)["parameters"]
    return SimulateConfig.checked(parameters | {"output": config.continues}, "simulate")


def _published(config: ContinueConfig, earlier: SimulateConfig) -> Published:
    """Read the audience, and what was recommended to it."""
    folder = config.recommendations or ""
    commit = read_manifest(folder, config.commit)[0].number
    audience = published_table(folder, AUDIENCE, commit).sort_by(c.CUSTOMER_ID)
    rows = published_table(folder, RECOMMENDATIONS, commit)
    people, items = earlier.customers, earlier.items
    treated = pc.equal(audience[c.ARM], TREATMENT).to_numpy()
    return Published(
        commit,
        _positions(audience[c.CUSTOMER_ID], 10, people),
        treated,
        Lists.of(
            _positions(rows[c.CUSTOMER_ID], 10, people),
            _positions(rows[c.ITEM_ID], 6, items),
            people,
        ),
    )


def _positions(ids: pa.ChunkedArray, width: int, count: int) -> Ints:
    """Return the positions in the market that ids stand for."""
    if not pc.all(pc.match_substring_regex(ids, f"^[0-9]{{{width}}}$")).as_py():
        raise UsageError("the recommendations have ids that are not the simulation's.")
    found = np.asarray(ids.cast(pa.int64()).to_numpy()) - 1
    if found.min(initial=0) < 0 or found.max(initial=0) >= count:
        raise UsageError("the recommendations have ids that the simulation does not have.")
    return found
