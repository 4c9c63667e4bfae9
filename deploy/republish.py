"""Let readers go back to an earlier table: its files are checked, then committed again.

python -m deploy.history   --output out/recommendations
python -m deploy.republish --output out/recommendations --commit 41 --reason "wrong prices"
"""

import time

from pydantic import Field

from deploy import publish
from recsys import cli
from recsys.config import Config
from recsys.progress import say
from recsys.storage import store_of


class RepublishConfig(Config):
    """Parameters of `republish`."""

    output: str = Field(description="folder or URL that batch_score publishes to")
    commit: int = Field(ge=1, description="number of the commit to go back to")
    reason: str = Field(min_length=3, description="why, for the history")


def main(config: RepublishConfig) -> None:
    """Commit the old table again and say so."""
    started = time.monotonic()
    commit = publish.republish(store_of(config.output), config.commit, config.reason)
    say(
        f"Readers of {config.output} see the table of commit {config.commit} again, as commit "
        f"{commit.number} ({time.monotonic() - started:.1f} s)."
    )


if __name__ == "__main__":
    cli.run(main, RepublishConfig, __doc__, "python -m deploy.republish")
