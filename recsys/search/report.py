"""What a search says: a line a trial on the terminal, and the parent run's description."""

import time
from collections.abc import Mapping, Sequence

from recsys import view
from recsys.progress import say
from recsys.search.goal import Done, Goal
from recsys.search.space import Space
from recsys.search.trial import FAILED, STOPPED
from recsys.training import run_name

SHOWN = 10


class Progress:
    """One line a trial: how many are done, what it came to, the best so far, the time left."""

    def __init__(self, space: Space, goal: Goal, max_evals: int, done: int) -> None:
        self.space, self.goal, self.max_evals = space, goal, max_evals
        self._taken_over, self._started = done, time.monotonic()

    def ended(self, trial: Done, done: Mapping[int, Done]) -> None:
        """Say how a trial ended."""
        best = self.goal.best(done)
        so_far = "" if best is None else f"best {best.value:.4f} (trial {best.number})"
        if trial.outcome.status == FAILED:
            what = f"failed: {trial.outcome.reason}"
        elif trial.outcome.status == STOPPED:
            what = f"{trial.value:.4f}, given up early"
        else:
            what = f"{trial.value:.4f}"
        if best is not None and best.number == trial.number:
            what += "  ← " + run_name(*self.space.chosen(trial.point))
        left = duration(self._left(len(done)))
        say(f"  {len(done)}/{self.max_evals}  {so_far}  {left} left  trial {trial.number}: {what}")

    def _left(self, done: int) -> float:
        """Return the seconds that the other trials will take."""
        since = time.monotonic() - self._started
        return since / max(1, done - self._taken_over) * (self.max_evals - done)


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def note(
    done: Mapping[int, Done],
    space: Space,
    goal: Goal,
    why: str,
    refitted: Mapping[str, tuple[str, dict[str, float]]],
    parent: tuple[str, str],
    trials: Sequence[tuple[str, str]],
) -> str:
    """Write the parent run's description.

    Args:
        done: the trials.
        space: that was searched.
        goal: what was asked for.
        why: the search ended.
        refitted: recommender → run and test metrics of its best setting, the best first.
        parent: experiment of the search, and key of the view of its trials.
        trials: experiment and run id of the best trials, to be shown side by side.
    """
    experiment, key = parent
    counts = [
        f"{sum(t.outcome.status == status for t in done.values())} {word}"
        for status, word in ((STOPPED, "given up early"), (FAILED, "failed"))
    ]
    ranked = sorted(
        (t for t in done.values() if t.value is not None),
        key=lambda t: (-goal.sign * (t.value or 0.0), t.number),
    )
    lines = [
        f"**Search** over {', '.join(space.algorithms)}: {len(done)} trials "
        f"({', '.join(counts)}), chosen by `validation/{goal.metric}`; {why}.",
        "",
        f"**Next.** [All trials]({view.view_address(experiment, '', key)}), best first; "
        f"[the best {len(trials)} side by side]({view.comparison_address(trials, host='')}); "
        "`plots/` and `trials.json` under *Artifacts*. Then `python -m registry.compare`, "
        "which takes the refitted runs like any others.",
        "",
        "| best setting of | test ndcg@10 discover | replenish | run |",
        "|---|---|---|---|",
    ]
    for algorithm, (run, metrics) in refitted.items():
        values = [metrics[f"test/{q}ndcg_at_10"] for q in ("", "replenish/")]
        link = f"[open]({view.run_address(experiment, run, host='')})"
        lines.append(f"| {algorithm} | {values[0]:.4f} | {values[1]:.4f} | {link} |")
    lines += ["", f"| trial | validation/{goal.metric} | setting |", "|---|---|---|"]
    for trial in ranked[:SHOWN]:
        setting = run_name(*space.chosen(trial.point))
        lines.append(f"| {trial.number} | {trial.value:.4f} | {setting} |")
    return "\n".join(lines)
