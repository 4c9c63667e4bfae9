"""Make MLflow show what the ledger says, after a crash between the two.

What somebody moved in MLflow by hand is reported, with the commands that adopt or undo it. Runs
that killed decisions left open are closed.

  python -m registry.reconcile
  python -m registry.reconcile --repair true        put back what was moved by hand, too

Exit codes: 0 MLflow shows what the ledger says; 1 something was moved by hand, or is lost.
"""

from pydantic import Field

from recsys import cli
from recsys.config import Config
from recsys.errors import RegistryError
from recsys.progress import say
from registry import projection
from registry.deciding import close_left


class ReconcileConfig(Config):
    """Parameters of `reconcile`."""

    model_name: str = Field("recommender", description="registered model of the releases")
    repair: bool = Field(False, description="true: undo what was moved in MLflow by hand")


def run_reconcile(config: ReconcileConfig) -> list[str]:
    """Repair what MLflow shows; returns what was changed of the releases, in words.

    Runs of decisions whose process was killed are closed as well.

    Raises:
        RegistryError: something was moved by hand, or MLflow lost what the ledger names.
    """
    if closed := close_left(config.model_name):
        say(f"  {closed} run(s) of killed decisions closed")
    changed = projection.show(config.model_name, config.repair)
    if left := projection.moved(config.model_name):
        raise RegistryError("; ".join(left))
    for sentence in changed or ["MLflow shows what the ledger says"]:
        say(f"  {sentence}")
    return changed


if __name__ == "__main__":
    cli.run(run_reconcile, ReconcileConfig, __doc__, "python -m registry.reconcile")
