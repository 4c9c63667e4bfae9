"""Nodes, hours and price of the daily and the weekly work, from throughput measured on one machine.

python -m benchmarks.cloud_cost --spot 0.09 --dedicated 0.46

hours = core-seconds ÷ (cores × efficiency × 3600) + bytes that each node fetches ÷ its network

Throughput is that of docs/performance.md's large run (105.9 M interactions, 1.85 M customers ×
98,796 items, two cores, commit 1869e6a). That it holds on a pool is an assumption, which
`--efficiency` carries: it was not measured there. Prices are yours to give: they differ by region
and day.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import command
from recsys.progress import say

# Of one core, in a second.
PACKED = 105.9e6 / (2 * 47.5)
SOLVED = 105.9e6 * 10 / (2 * 159.4)  # interactions × iterations, 64 factors
SCORED = 1.853e6 / (2 * 24.0)  # customers, 64 factors, 98,796 items
PREPARED = 105.9e6 / (2 * 840)  # Spark's sort, and window files
JUDGED = 2.14  # one judging ÷ one scoring, the higher of what was measured
INTERACTIONS_A_CUSTOMER = 105.9 / 1.853
STARTING_HOURS = 10 / 60  # a node's image, start task and Spark


@dataclass(frozen=True)
class Work:
    """A retailer, and what is fitted.

    Attributes:
        customers: of the retailer.
        items: of the catalogue.
        factors: of ALS.
        iterations: of ALS.
    """

    customers: float
    items: float = 100_000
    factors: int = 96
    iterations: int = 15

    @property
    def interactions(self) -> float:
        """As many a customer as in the measured run."""
        return self.customers * INTERACTIONS_A_CUSTOMER

    @property
    def factor_bytes(self) -> float:
        """Bytes of both sides' factors."""
        return 4 * self.factors * (self.customers + self.items)

    def daily(self) -> tuple[float, float]:
        """Return core-seconds, and bytes a node fetches, of scoring everybody."""
        scoring = self.customers / SCORED * self.factors / 64
        return self.interactions / PACKED + scoring, self.factor_bytes

    def weekly(self) -> tuple[float, float]:
        """Return the same of preparing a dataset and training ALS: two fits, each judged."""
        fit = self.interactions * self.iterations / SOLVED * self.factors / 64
        judging = JUDGED * self.customers / SCORED * self.factors / 64
        fetched = 2 * (self.iterations + 1) * self.factor_bytes
        return self.interactions / PREPARED + self.interactions / PACKED + 2 * (
            fit + judging
        ), fetched


@dataclass(frozen=True)
class Node:
    """A node of the pool.

    Attributes:
        cores: that it has.
        network: bytes a second that it fetches from Blob storage.
        spot: its price an hour as a Spot node.
        dedicated: its price an hour as a dedicated one.
        efficiency: share of the measured throughput that a core of a pool reaches.
    """

    cores: int
    network: float
    spot: float
    dedicated: float
    efficiency: float


def hours(seconds: float, fetched: float, workers: int, node: Node) -> float:
    """Return how long work takes on so many workers, with what starting them takes."""
    work = seconds / (workers * node.cores * node.efficiency) + fetched / node.network
    return STARTING_HOURS + work / 3600


def row(work: Work, name: str, workers: int, node: Node) -> str:
    """Return a line of the table: workers are Spot nodes, the driver is a dedicated one."""
    seconds, fetched = work.daily() if name == "daily" else work.weekly()
    took = hours(seconds, fetched, workers, node)
    price = took * (workers * node.spot + node.dedicated)
    return (
        f"| {work.customers / 1e6:g} M | {work.interactions / 1e9:.2f} G | {name} "
        f"| {seconds / 3600:,.1f} | {work.factor_bytes / 2**30:.1f} | {workers} + 1 "
        f"| {took:.2f} | {price:,.2f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = command.parser("cloud_cost", __doc__)
    parser.add_argument("--spot", type=float, default=0.09, help="price of a Spot node an hour")
    parser.add_argument("--dedicated", type=float, default=0.46, help="of a dedicated one")
    parser.add_argument("--cores", type=int, default=8, help="cores of a node")
    parser.add_argument("--network", type=float, default=1.0, help="GB a second a node fetches")
    parser.add_argument("--efficiency", type=float, default=0.7, help="of a core on a pool")
    options = parser.parse_args(arguments)
    node = Node(
        options.cores, options.network * 1e9, options.spot, options.dedicated, options.efficiency
    )
    say("| customers | interactions | work | core-hours | factors, GiB | nodes | hours | price |")
    say("|---|---|---|---|---|---|---|---|")
    for customers, workers in ((1e6, 2), (10e6, 8), (100e6, 32)):
        for name in ("daily", "weekly"):
            say(row(Work(customers), name, workers, node))


if __name__ == "__main__":
    main()
