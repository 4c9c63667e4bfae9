"""MLflow's server for a team.

  python -m deploy.server start --home /srv/recsys
  python -m deploy.server roles --trainers ada --reviewers grace --scorers nightly --analysts mary
  python -m deploy.server password --account ada

`start` serves until it is stopped. `roles` and `password` ask the server at MLFLOW_TRACKING_URI,
as the admin that MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD name. Passwords and
databases' addresses come from the environment alone. `VERB --help` explains the parameters.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

from deploy.server.start import StartConfig, run_start
from recsys import cli
from recsys.config import Config

PROGRAM = "python -m deploy.server"
VERBS = ("start", "roles", "password")


def main(arguments: list[str]) -> None:
    """Run one verb."""
    if not arguments or arguments[0] not in VERBS:
        print(f"{__doc__}\nverbs: {', '.join(VERBS)}", file=sys.stderr)
        raise SystemExit(0 if arguments in (["--help"], ["-h"]) else 2)
    step, config = _verb(arguments[0])
    cli.run(step, config, step.__doc__, f"{PROGRAM} {arguments[0]}", arguments[1:])


def _verb(name: str) -> tuple[Callable[[Any], None], type[Config]]:
    """Return a verb's function and parameters."""
    if name == "start":
        return run_start, StartConfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Loads all of MLflow, which `start` leaves to the server.
        from deploy.server import accounts
    if name == "roles":
        return accounts.run_roles, accounts.RolesConfig
    return accounts.run_password, accounts.PasswordConfig


if __name__ == "__main__":
    main(sys.argv[1:])
