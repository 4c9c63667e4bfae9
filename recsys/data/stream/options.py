"""How a landing folder is followed."""

import re
from dataclasses import dataclass

from recsys.data.stream.verdicts import Patience
from recsys.errors import UsageError

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
PATIENCE = Patience(quiet_seconds=5, patience_seconds=3600)


@dataclass(frozen=True)
class StreamOptions:
    """How a landing folder is followed.

    Attributes:
        trigger: time from one micro-batch to the next, such as `1 minute`; None: take what is
            there, and end.
        state: folder of the stream's state; None: beside the output.
        max_files: in a micro-batch.
        patience: with files that are still being written.
    """

    trigger: str | None = None
    state: str | None = None
    max_files: int = 1000
    patience: Patience = PATIENCE

    @property
    def seconds(self) -> int | None:
        """Seconds from one micro-batch to the next; raises UsageError."""
        if self.trigger is None:
            return None
        match = re.fullmatch(r"\s*(\d+)\s*([a-z]+?)s?\s*", self.trigger.lower())
        if match is None or match[2] not in UNITS or not int(match[1]):
            raise UsageError(
                f"trigger={self.trigger!r} is not usable: give a time such as '30 seconds' or "
                "'5 minutes', or leave it out to take what is there and end."
            )
        return int(match[1]) * UNITS[match[2]]
