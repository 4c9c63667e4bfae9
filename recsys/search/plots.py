"""Pictures of a study: how it went, where the good settings lie, which parameters matter."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recsys.plots import COLOURS, HEIGHT, WIDTH, plain
from recsys.search.goal import Done, Goal
from recsys.search.space import Choice, Range, Space
from recsys.search.trial import FAILED, FINISHED

Values = NDArray[np.float64]
# With fewer trials an importance says nothing.
FEWEST = 12
GROUPS = 4


def all_of(done: Mapping[int, Done], space: Space, goal: Goal) -> dict[str, Figure]:
    """Return name → picture; those of single parameters for each recommender."""
    found = {"history": history(done, goal)}
    for algorithm in space.algorithms:
        trials = of_algorithm(done, space, algorithm)
        if len(trials) >= 2:
            found[f"coordinates_{algorithm}"] = coordinates(trials, space, algorithm, goal)
        if len(trials) >= FEWEST:
            found[f"importance_{algorithm}"] = importance(trials, space, algorithm, goal)
    return found


def of_algorithm(done: Mapping[int, Done], space: Space, algorithm: str) -> list[Done]:
    """Return the finished trials of a recommender."""
    return [
        trial
        for _, trial in sorted(done.items())
        if trial.outcome.status == FINISHED and space.chosen(trial.point)[0] == algorithm
    ]


def history(done: Mapping[int, Done], goal: Goal) -> Figure:
    """Draw each trial's value and the best so far."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    finished = {n: t.value for n, t in sorted(done.items()) if t.outcome.status == FINISHED}
    numbers, values = list(finished), np.array(list(finished.values()), dtype=np.float64)
    axes.plot(numbers, values, "o", color="#888888", markersize=4, label="trial")
    best = np.maximum.accumulate(goal.sign * values) * goal.sign
    axes.step(numbers, best, where="post", color=COLOURS["discover"], label="best so far")
    given_up = {n: t.value for n, t in done.items() if t.value is not None and n not in finished}
    if given_up:
        axes.plot(
            list(given_up), list(given_up.values()), "x", color=COLOURS["replenish"],
            label="given up early",
        )  # fmt: skip
    failed = [n for n, t in done.items() if t.outcome.status == FAILED]
    if failed:
        axes.plot(failed, [axes.get_ylim()[0]] * len(failed), "|", color="#c0392b", label="failed")
    axes.set(title="Trial by trial", xlabel="trial", ylabel=f"validation/{goal.metric}")
    axes.legend(frameon=False)
    return plain(figure)


def coordinates(trials: list[Done], space: Space, algorithm: str, goal: Goal) -> Figure:
    """Draw a line a trial through its parameters, the best ones dark and on top."""
    figure = Figure(figsize=(1.6 * WIDTH, 1.3 * HEIGHT), layout="constrained")
    axes = figure.subplots()
    labels = [label for label, (of, _) in space.labels.items() if of == algorithm]
    values = np.array([trial.value for trial in trials], dtype=np.float64) * goal.sign
    rank = np.argsort(np.argsort(values)) / max(1, len(values) - 1)
    for place in np.argsort(rank):
        point = trials[place].point
        heights = [
            space.labels[label][1].domain.span(point[label]) if label in point else np.nan
            for label in labels
        ]
        strength = rank[place] ** 3
        axes.plot(
            range(len(labels)), heights, marker="o", markersize=3,
            color=COLOURS["discover"] if rank[place] > 0.9 else "#888888",
            alpha=0.15 + 0.85 * strength, linewidth=0.6 + 1.6 * strength,
        )  # fmt: skip
    for place, label in enumerate(labels):
        domain = space.labels[label][1].domain
        for height, text in _ticks(domain):
            axes.text(place + 0.03, height, text, fontsize=7, color="#444444", va="center")
    names = [label.removeprefix(f"{algorithm}.") for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=20, ha="right")
    axes.set_yticks([])
    axes.set(
        title=f"{algorithm}: {len(trials)} settings, the best tenth by validation/{goal.metric} "
        "in blue",
        ylim=(-0.04, 1.04),
    )
    return plain(figure)


def _ticks(domain: Range | Choice) -> list[tuple[float, str]]:
    """Return heights and the values there."""
    if isinstance(domain, Choice):
        named = enumerate(domain.values)
        return [(domain.span(n), "never" if v is None else str(v)) for n, v in named]
    low, high = domain.ends
    found = []
    for height in (0.0, 0.5, 1.0):
        value = domain.value_at(low + height * (high - low))
        found.append((height, f"{value:.3g}" if isinstance(value, float) else str(value)))
    return found


def importance(trials: list[Done], space: Space, algorithm: str, goal: Goal) -> Figure:
    """Draw how much of the values' spread each parameter explains by itself."""
    shares = importances(trials, space, algorithm)
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    names = sorted(shares, key=lambda name: shares[name])
    axes.barh(names, [100 * shares[name] for name in names], color=COLOURS["discover"])
    axes.set(
        title=f"{algorithm}: which parameters matter, by themselves",
        xlabel=f"share of the spread of validation/{goal.metric} (%)",
        xlim=(0, max(10.0, 110 * max(shares.values(), default=0.0))),
    )
    return plain(figure)


def importances(trials: list[Done], space: Space, algorithm: str) -> dict[str, float]:
    """Return parameter → share of the spread of the ranks that it explains by itself, 0 … 1.

    A range is cut into quarters of its trials, a choice into its values; the share is ε² (Kelley
    1935) of the ranks over these groups, which chance alone leaves at 0 on average. What only two
    parameters explain together does not show.
    """
    values = np.array([trial.value for trial in trials], dtype=np.float64)
    ranks = np.argsort(np.argsort(values)).astype(np.float64)
    found = {}
    for label, (of, parameter) in space.labels.items():
        if of != algorithm:
            continue
        positions = np.array([trial.point.get(label, np.nan) for trial in trials])
        known = ~np.isnan(positions)
        if known.sum() >= FEWEST:
            groups = _groups(positions[known], isinstance(parameter.domain, Choice))
            found[parameter.name] = epsilon_squared(ranks[known], groups)
    return found


def _groups(positions: Values, choice: bool) -> NDArray[np.int64]:
    """Return the number of the group that each trial falls into."""
    if choice:
        return np.unique(positions, return_inverse=True)[1].astype(np.int64)
    order = np.argsort(np.argsort(positions, kind="stable"), kind="stable")
    return np.asarray(order * GROUPS // len(order), dtype=np.int64)


def epsilon_squared(values: Values, groups: NDArray[np.int64]) -> float:
    """Return the share of variance between groups, freed of what chance brings; 0 at least.

    ε² = (SS_between - (groups - 1) · MS_within) / SS_total.
    """
    total = float(((values - values.mean()) ** 2).sum())
    counts = np.bincount(groups)
    degrees = len(values) - int((counts > 0).sum())
    if total == 0 or degrees < 1:
        return 0.0
    sums = np.bincount(groups, values)
    averages = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    within = float(((values - averages[groups]) ** 2).sum())
    between = total - within
    share = (between - (int((counts > 0).sum()) - 1) * within / degrees) / total
    return max(0.0, share)
