"""What to try next: hyperopt's TPE (Bergstra et al. 2011), or random search as its baseline.

A suggestion depends on the study's seed, the trial's number and the results of trials that were
begun long enough before, never on which of those at work happens to end first. So a study comes
out the same when it is run again, and a driver that was killed goes on with the same trials.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hyperopt import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK, Trials, rand, tpe
from hyperopt.base import Domain

from recsys.search.space import Point, Space

Sampler = Literal["tpe", "random"]
# hyperopt takes the best gamma·√trials for good. With its own 0.25 that is two trials of sixty,
# around which it goes on circling; with 1 it beats random search (`python -m benchmarks.search`).
GAMMA = 1.0
CANDIDATES = 12
RANDOM_FIRST = 10


@dataclass(frozen=True)
class Trial:
    """One trial, as far as what comes next depends on it.

    Attributes:
        number: its place in the study, from 0; below 0 for one of an earlier study.
        point: what it tried.
        loss: what it came to, lower is better; None where it failed.
    """

    number: int
    point: Point
    loss: float | None


@dataclass(frozen=True)
class Study:
    """How a study chooses what to try.

    Attributes:
        space: where it looks.
        sampler: `tpe`, or `random`.
        seed: of all suggestions.
        at_once: trials at work at once.
        firsts: what the first trials try, before the sampler is asked.
    """

    space: Space
    sampler: Sampler
    seed: int
    at_once: int
    firsts: tuple[Point, ...] = ()

    def needed(self, number: int) -> int:
        """Return below which number all trials must have ended before `number` is suggested.

        A trial that takes long may be overtaken by as many as there are at work beside it.
        """
        return max(0, number - 2 * (self.at_once - 1))

    def suggest(self, number: int, trials: Sequence[Trial]) -> Point:
        """Return what a trial is to try.

        Args:
            number: of the trial.
            trials: at least those that `needed` asks for, and an earlier study's.
        """
        if number < len(self.firsts):
            return self.firsts[number]
        known = sorted(
            (trial for trial in trials if trial.number < self.needed(number)),
            key=lambda trial: trial.number,
        )
        [seed] = np.random.SeedSequence([self.seed, number]).generate_state(1)
        domain, history = Domain(_never, self.space.expression()), Trials()
        history.insert_trial_docs(_docs(known, list(domain.params), history))
        history.refresh()
        if self.sampler == "random":
            found = rand.suggest([number], domain, history, int(seed))
        else:
            found = tpe.suggest(
                [len(known)],
                domain,
                history,
                int(seed),
                n_startup_jobs=RANDOM_FIRST,
                n_EI_candidates=CANDIDATES,
                gamma=GAMMA,
                verbose=False,
            )
        values = found[0]["misc"]["vals"]
        return {label: float(value[0]) for label, value in sorted(values.items()) if len(value)}


def _never(_: object) -> float:
    """Stand for the function that hyperopt would call; trials are run by `recsys.search.runner`."""
    raise NotImplementedError


def _docs(trials: Sequence[Trial], labels: Sequence[str], history: Trials) -> list[dict[str, Any]]:
    """Tell of trials in hyperopt's words."""
    docs: list[dict[str, Any]] = []
    for tid, trial in enumerate(trials):
        failed = trial.loss is None
        result = {"status": STATUS_FAIL} if failed else {"status": STATUS_OK, "loss": trial.loss}
        known = {label: [_plain(trial.point[label])] for label in labels if label in trial.point}
        misc = {
            "tid": tid,
            "cmd": None,
            "idxs": {label: [tid] if label in known else [] for label in labels},
            "vals": {label: known.get(label, []) for label in labels},
        }
        [doc] = history.new_trial_docs([tid], [None], [result], [misc])
        docs.append(doc | {"state": JOB_STATE_DONE})
    return docs


def _plain(position: float) -> float | int:
    """Return a choice's number as the integer that hyperopt counts."""
    return int(position) if position.is_integer() else position
