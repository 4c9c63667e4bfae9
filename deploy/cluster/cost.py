"""What a job may cost at most: nodes × hours × price."""

from dataclasses import dataclass

from deploy.azure_batch.config import BackendConfig
from recsys.errors import UsageError


@dataclass(frozen=True)
class Cost:
    """The most that a job can use.

    Attributes:
        dedicated: dedicated nodes.
        spot: Spot nodes.
        hours: how long each may run.
        money: None where the configuration has no prices.
    """

    dedicated: int
    spot: int
    hours: float
    money: float | None

    def line(self) -> str:
        """Say it in one line."""
        kinds = ((self.dedicated, "dedicated"), (self.spot, "Spot"))
        nodes = " and ".join(f"{count} {kind}" for count, kind in kinds if count)
        money = "" if self.money is None else f", at most {self.money:.2f}"
        return f"{nodes} node{'s' * (self.dedicated + self.spot > 1)} for {self.hours:g} h{money}"


def cost_of(config: BackendConfig) -> Cost:
    """Estimate a job's cost.

    Raises:
        UsageError: it is above `max_cost`, or there is a `max_cost` but no prices.
    """
    dedicated = config.pool.dedicated
    spot = config.pool.nodes - dedicated
    price = config.price_per_node_hour
    if price is None:
        if config.max_cost is not None:
            raise UsageError("max_cost needs price_per_node_hour: give dedicated and spot prices.")
        return Cost(dedicated, spot, config.max_hours, None)
    money = config.max_hours * (dedicated * price.dedicated + spot * price.spot)
    cost = Cost(dedicated, spot, config.max_hours, money)
    if config.max_cost is not None and money > config.max_cost:
        raise UsageError(
            f"The job could cost {money:.2f} ({cost.line()}), above max_cost={config.max_cost:g}: "
            "lower pool.workers or max_hours, or raise max_cost."
        )
    return cost
