"""Where a job's tasks find each other: a log in Blob storage, one epoch a driver.

A driver that comes back on another node takes the next number; the log gives a number to one
writer only, so two drivers can never both be the newest. Workers follow the newest.
"""

from dataclasses import dataclass

from deploy.azure_batch.job import work_folder
from recsys.errors import ClusterError
from recsys.storage import CommitConflict, CommitLog, keys_of, remove, store_of

TRIES = 5


@dataclass(frozen=True)
class Epoch:
    """One driver's time: its number, its Spark master, and the secret that its workers share."""

    number: int
    master: str
    secret: str


class Rendezvous:
    """The log of one job.

    Args:
        storage: the configuration's `storage`.
        job_id: the job.
    """

    def __init__(self, storage: str, job_id: str) -> None:
        folder = f"{work_folder(storage, job_id)}/rendezvous"
        self.log = CommitLog(store_of(folder, create=True))

    def newest(self) -> Epoch | None:
        """Return the newest epoch, None where no driver has come yet."""
        head = self.log.head()
        if head is None:
            return None
        return Epoch(head.number, head.payload["master"], head.payload["secret"])

    def take_over(self, master: str, secret: str) -> Epoch:
        """Begin the next epoch; raises ClusterError where others keep taking it."""
        for _ in range(TRIES):
            head = self.log.head()
            try:
                commit = self.log.append(
                    {"master": master, "secret": secret}, head.number if head else 0
                )
            except CommitConflict:
                continue
            return Epoch(commit.number, master, secret)
        raise ClusterError(
            f"Other drivers of this job took over {TRIES} times in a row: end the job, run again."
        )


def clean(storage: str, job_id: str) -> None:
    """Remove what the tasks of a job shared while it ran."""
    store = store_of(work_folder(storage, job_id), create=True)
    remove(store, keys_of(store, ""))
