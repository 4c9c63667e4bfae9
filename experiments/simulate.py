"""Write a simulated retailer's raw transactions, with the truth they were drawn from.

With `continues`, write those of the days after a campaign, whose effect is then known.
"""

from functools import partial

import mlflow

from recsys.cli import run
from recsys.data import continued, simulate
from recsys.data.continued import ContinueConfig
from recsys.data.replace import content_of
from recsys.data.simulate import SimulateConfig, Simulation
from recsys.progress import say, stage
from recsys.storage import fetched
from recsys.tracking import step_run


def run_simulate(config: SimulateConfig) -> Simulation:
    """Simulate within an MLflow run that keeps parameters, counts and the description."""
    if isinstance(config, ContinueConfig) and config.continues:
        name = f"simulate {config.after_days:,} days after"
        marker, draw = continued.MARKER, partial(continued.continued, config)
    else:
        name = f"simulate {config.customers:,} customers"
        marker, draw = simulate.MARKER, partial(simulate.simulate, config)
    with step_run("simulate", name, config.model_dump()):
        with stage("simulate"):
            result = draw()
        mlflow.log_metrics({"rows": result.rows, "guest_rows": result.guest_rows})
        mlflow.log_metrics({f"planted/{name}": n for name, n in result.planted.items()})
        mlflow.set_tag("recsys.simulation_digest", result.digest)
        mlflow.log_artifact(str(fetched(content_of(result.output) / marker)))
    say(
        f"{result.rows:,} rows in {result.output}, {result.guest_rows:,} of them guests'; "
        f"{sum(result.planted.values()):,} are to be found and quarantined."
    )
    return result


if __name__ == "__main__":
    run(run_simulate, ContinueConfig, __doc__, "python -m experiments.simulate")
