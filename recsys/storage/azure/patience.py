"""How long Blob storage is waited for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long a storage account is waited for before an error is reported.

    obstore does not read the Retry-After of an account that throttles; waits that start at a
    second and grow outlast it. azure-storage-blob's clients wait as long as they are told.

    Attributes:
        retries: how often a request is sent again.
        first_wait: seconds before the first time; later waits grow, by chance.
        longest_wait: seconds between two at most.
        total: no retry is begun after so many seconds.
        request: seconds that one request may take.
    """

    retries: int = 20
    first_wait: float = 1.0
    longest_wait: float = 15.0
    total: float = 60.0
    request: float = 60.0


PATIENCE = Patience()
