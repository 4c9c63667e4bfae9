"""What a driver's exit code means, in words."""

NO_WORKERS = 75
RENDEZVOUS = 76

MEANINGS = {
    0: "done",
    1: "could not be done",
    2: "a parameter is wrong",
    3: "refused by an audit; the previous table stands",
    126: "the entry point's command cannot be run",
    127: "the entry point's command was not found",
    130: "stopped by hand",
    137: "killed: out of memory, or the node went away",
    143: "ended from outside",
    NO_WORKERS: "no worker came in time",
    RENDEZVOUS: "another driver of this job took over",
}


def meaning(code: int | None) -> str:
    """Say what an exit code means; None: the driver never ended by itself."""
    if code is None:
        return "never started, or ended without an exit code"
    if code not in MEANINGS and code > 128:
        return f"killed by signal {code - 128}"
    return MEANINGS.get(code, "failed")
