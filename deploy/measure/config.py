"""Parameters of `measure`, and what follows from them."""

from datetime import date

from pydantic import Field

from deploy.measure.results import CAMPAIGN_RESULTS
from recsys.config import Config
from recsys.errors import UsageError
from recsys.storage import Place, place_of

# Customers buy now and then: a longer look back says more of what they are like.
WINDOWS_BEFORE = 3
# Ten years of days.
LONGEST = 3650


class MeasureConfig(Config):
    """Parameters of `measure`."""

    recommendations: str = Field(description="folder or URL that batch_score publishes to")
    interactions: str = Field(description="folder that ingest wrote, with the purchases since then")
    window_days: int = Field(
        28, ge=1, le=LONGEST, description="days in which customers are followed"
    )
    output: str | None = Field(
        None,
        description="folder or URL to publish to; none: campaign_results beside recommendations",
    )
    strategy: str | None = Field(None, description="only this strategy; none: all")
    commit: int | None = Field(
        None, ge=1, description="number of the commit; none: the newest whose window has passed"
    )
    start: date | None = Field(
        None, description="first day, YYYY-MM-DD; none: the first after what was scored with"
    )
    segments: str | None = Field(
        None, description="columns of the customers table, by comma, beside activity"
    )
    before_days: int | None = Field(
        None,
        ge=1,
        le=LONGEST,
        description="days before that say what customers are like; none: three windows",
    )
    churn_days: int | None = Field(
        None,
        ge=1,
        le=LONGEST,
        description="who ordered so many days before can churn; none: before_days",
    )
    plan: bool = Field(False, description="true: only say what the next campaign needs")
    effect: float = Field(0.05, ge=0.001, lt=1, description="relative effect to plan for")

    @property
    def days_before(self) -> int:
        """Length of the time before the campaign."""
        return self.before_days or WINDOWS_BEFORE * self.window_days

    @property
    def place(self) -> Place:
        """Where the results are published."""
        if self.output is not None:
            return place_of(self.output)
        return place_of(self.recommendations).parent / CAMPAIGN_RESULTS

    def check(self) -> None:
        """Refuse what is wrong without a session; raises UsageError."""
        if self.start is not None and self.strategy is None and self.commit is None:
            raise UsageError("start belongs to one campaign: give its strategy or its commit too.")
