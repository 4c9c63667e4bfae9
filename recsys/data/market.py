"""The simulated retailer's truth: what it sells, who buys there, and what they like.

Everyone has a mixture of a few tastes, every taste an appeal for each item, so that
P(item | customer) = Σ over tastes of P(taste | customer) · P(item | taste): a low-rank truth that
collaborative filtering can find. Seasons, launches and short-lived trends move it week by week.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Department, its nouns, median price in pence, days until rebought (0: durable), peak day of year.
DEPARTMENTS: tuple[tuple[str, str, int, int, int], ...] = (
    ("Kitchen", "Serving Board,Mixing Bowl,Ladle,Storage Jar", 1400, 0, 0),
    ("Tableware", "Dinner Plate,Mug,Jug,Cake Stand", 900, 0, 340),
    ("Glass", "Tumbler,Carafe,Vase,Wine Glass", 800, 0, 0),
    ("Textiles", "Cushion,Throw,Table Runner,Apron", 2200, 0, 300),
    ("Bath", "Towel,Bath Mat,Soap Dish,Mirror", 1600, 0, 0),
    ("Soap", "Hand Soap,Bath Salts,Shower Gel,Hand Cream", 500, 35, 0),
    ("Candles", "Pillar Candle,Tea Lights,Scented Candle,Lantern", 700, 45, 345),
    ("Coffee", "Ground Coffee,Coffee Beans,Espresso Pods,Decaf Blend", 650, 21, 0),
    ("Tea", "Breakfast Tea,Green Tea,Herbal Infusion,Loose Leaf", 450, 28, 20),
    ("Pantry", "Olive Oil,Preserve,Chutney,Sea Salt", 550, 42, 0),
    ("Confectionery", "Chocolate Bar,Fudge,Biscuit Tin,Truffles", 400, 18, 350),
    ("Cleaning", "Surface Spray,Dish Soap,Laundry Liquid,Sponge Set", 350, 30, 0),
    ("Stationery", "Notebook,Gift Wrap,Card Set,Pen Pot", 450, 0, 345),
    ("Toys", "Puzzle,Wooden Train,Soft Rabbit,Card Game", 1500, 0, 345),
    ("Garden", "Planter,Trowel,Watering Can,Bird Feeder", 1300, 0, 140),
    ("Outdoor", "Picnic Blanket,Cool Bag,Camping Mug,Deck Chair", 2500, 0, 180),
    ("Lighting", "Table Lamp,String Lights,Night Light,Lampshade", 2800, 0, 320),
    ("Storage", "Basket,Wooden Crate,Hook Rail,Shelf Box", 1700, 0, 10),
    ("Pets", "Dog Treats,Cat Food,Chew Toy,Bird Seed", 600, 24, 0),
    ("Ornaments", "Bauble,Wreath,Garland,Figurine", 600, 0, 345),
)
MATERIALS = (
    "Oak", "Linen", "Copper", "Ivory", "Rustic", "Slate", "Amber", "Meadow", "Nordic", "Vintage",
    "Harbour", "Heather", "Willow", "Marble", "Cotton", "Juniper",
)  # fmt: skip
REGIONS = ("North", "Midlands", "East", "London", "South", "West", "Wales", "Scotland")
STORES = 24
STORE_SKEW = 0.6


@dataclass(frozen=True)
class Market:
    """The truth behind the transactions; days count from the first day.

    Attributes:
        department: (items,) position in DEPARTMENTS.
        names: (items,) readable product names.
        pence: (items,) price.
        rebuy_days: (items,) usual days between purchases; 0: durable.
        launch: (items,) day from which it is sold.
        appeal: (tastes, items) share of each item in a taste, at rest.
        trend_week: (items,) first week of a trend; -99: none.
        trend: (items,) its strength.
        tastes: (customers, tastes) share of each taste.
        arrival: (customers,) first possible day.
        departure: (customers,) last possible day.
        activity: (customers,) relative rate of baskets.
        store: (customers,) home store.
    """

    department: Ints
    names: list[str]
    pence: Ints
    rebuy_days: Ints
    launch: Ints
    appeal: Floats
    trend_week: Ints
    trend: Floats
    tastes: Floats
    arrival: Ints
    departure: Ints
    activity: Floats
    store: Ints

    def demand(self, week: int, first_day_of_year: int) -> Floats:
        """Return (tastes, items): the cumulated probability of each item in one week."""
        day = 7 * week
        age = (day + 6 - self.launch) / 7.0
        novelty = np.where(self.launch > 0, 1 + 5 * np.exp(-np.maximum(age, 0) / 3), 1.0)
        peaks = np.array([row[4] for row in DEPARTMENTS])
        angle = 2 * np.pi * (day + first_day_of_year - peaks) / 365.25
        season = np.where(peaks > 0, np.exp(1.3 * np.cos(angle)), 1.0)[self.department]
        since = week - self.trend_week
        trend = np.where((since >= 0) & (since < 6), self.trend, 1.0)
        weights = self.appeal * (novelty * season * trend * (age >= 0))
        cumulated = np.cumsum(weights, axis=1)
        return np.asarray(cumulated / cumulated[:, -1:])


def make_market(
    customers: int, items: int, days: int, tastes: int, rng: np.random.Generator
) -> Market:
    """Draw a retailer: `items` products, `customers` people with `tastes` kinds of taste."""
    kinds = len(DEPARTMENTS)
    department = rng.integers(0, kinds, items)
    popularity = (1 + rng.permutation(items)) ** -0.6
    liked = rng.dirichlet(np.full(kinds, 0.25), tastes)[:, department]
    appeal = popularity * (liked + 0.002) * rng.gamma(0.5, 2.0, (tastes, items))
    # A fifth of the range is launched while we watch; the first item always stays on sale.
    launched = (rng.random(items) < 0.2) & (np.arange(items) > 0)
    trending = rng.random(items) < 0.3
    weeks = days // 7 + 1
    arrives_late = rng.random(customers) < 0.4
    arrival = np.where(arrives_late, rng.integers(0, days, customers), 0)
    leaves = rng.random(customers) < 0.25
    lifetime = rng.integers(days // 8 + 1, days + 2, customers)
    median = np.array([row[2] for row in DEPARTMENTS])[department]
    stores = np.arange(1, STORES + 1) ** -STORE_SKEW
    return Market(
        department=department,
        names=_names(department, rng),
        pence=np.maximum(20, np.rint(median * rng.lognormal(0, 0.5, items))).astype(np.int64),
        rebuy_days=np.array([row[3] for row in DEPARTMENTS])[department],
        launch=np.where(launched, rng.integers(0, days, items), 0),
        appeal=appeal / appeal.sum(axis=1, keepdims=True),
        trend_week=np.where(trending, rng.integers(0, weeks, items), -99),
        trend=1 + rng.lognormal(1.6, 0.5, items),
        tastes=rng.dirichlet(np.full(tastes, 0.15), customers),
        arrival=arrival,
        departure=np.where(leaves, np.minimum(arrival + lifetime, days - 1), days - 1),
        activity=rng.lognormal(0, 0.9, customers),
        store=rng.choice(STORES, customers, p=stores / stores.sum()),
    )


def _names(department: Ints, rng: np.random.Generator) -> list[str]:
    """Make readable product names, each once."""
    nouns = [row[1].split(",") for row in DEPARTMENTS]
    which = rng.integers(0, 4, len(department))
    material = rng.integers(0, len(MATERIALS), len(department))
    return [
        f"{MATERIALS[m]} {nouns[d][n]} No {i + 1}"
        for i, (d, n, m) in enumerate(zip(department, which, material, strict=True))
    ]
