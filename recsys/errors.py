"""Every error a user can meet; each message says what to do next.

RecsysError            exit code 1: the work could not be done
├── UsageError         exit code 2: a parameter or a file's form is wrong
├── DataError          the data cannot be used as it is
├── ModelError         a model is missing, altered, or does not fit the dataset
├── RegistryError      a release is not what the ledger says, or was not approved as the policy asks
├── PublishError       the new table was not published; the previous one still stands
└── ClusterError       the pool of machines, or a job on it, could not do its part
    ├── CapacityError  no machine came in time
    ├── NodeError      machines came, but none became usable
    └── PoolError      the pool is missing, or is not what the configuration says
"""


class RecsysError(Exception):
    """Something a user can mend; the message is one sentence that says how."""

    exit_code = 1


class UsageError(RecsysError):
    """A parameter, a configuration key or a file's form is wrong."""

    exit_code = 2


class DataError(RecsysError):
    """The data is missing, empty, or not what the step needs."""


class ModelError(RecsysError):
    """A model is missing, altered since it was saved, or belongs to another dataset."""


class RegistryError(RecsysError):
    """A release is not what the ledger says, or may not hold a stage; nothing was changed."""


class PublishError(RecsysError):
    """A table was not published; readers still see the previous one."""


class ClusterError(RecsysError):
    """The pool of machines, or a job on it, could not do its part; nothing is left running."""


class CapacityError(ClusterError):
    """No machine came in time: none to be had, or a quota is used up."""


class NodeError(ClusterError):
    """Machines came, but none became usable: its start task failed, or it stayed unusable."""


class PoolError(ClusterError):
    """The pool is missing, or differs from the configuration in what cannot be changed."""
