"""Measure what campaigns did: customers who got recommendations against those held out.

Everyone in a published audience is followed through the purchases of the days after it, each in
the arm that was drawn. What the data cannot answer is said, not guessed: without a hold-out, with
arms that are not as they were drawn, or with purchases that end too early.

  python -m deploy.measure --recommendations out/recommendations --interactions out/ingested
  python -m deploy.measure … --window_days 14 --strategy win_back --segments Country
  python -m deploy.measure … --plan true --effect 0.03

`--plan true` only says how many customers and days it takes to show such an effect.
"""

from deploy.measure.config import MeasureConfig
from deploy.measure.run import run_measure, run_plan
from recsys import cli
from recsys.session import spark_session


def main(config: MeasureConfig) -> None:
    """Run the step in a session of its own."""
    config.check()
    spark = spark_session("measure", config.interactions, config.recommendations, config.output)
    if config.plan:
        run_plan(config, spark)
    else:
        run_measure(config, spark)


if __name__ == "__main__":
    cli.run(main, MeasureConfig, __doc__, "python -m deploy.measure")
