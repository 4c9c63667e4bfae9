"""What a comparison found, as JSON, as Markdown and as a picture."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

OURS = "ours"
# What each task is about, the phase that is compared by itself, and what all phases are.
TITLES = {
    "als": "ALS: fit",
    "score": "Score every customer, bought items excluded",
    "item_item": "Item-item: fit",
}
ALONE = {"als": "fit", "score": "score", "item_item": "fit"}
ALL = "all phases"
NOTES = """\
- Seconds: median (least – most) of the turns. Ratio: ours ÷ theirs within a turn, below 1 where \
this project is faster; likewise.
- Phases: `pack` reads the interactions and brings them into the form that a fit takes, `plan` \
computes the trend, `save` writes the model. Not timed: the start of Spark, imports, a warm-up.
- Memory: peak of the proportional set sizes in MiB: the first process, its JVM, its Python \
workers, all together at one moment. A page that several processes map counts once; a JVM takes \
as much of its heap as it is given before it tidies up.
- `score`: everybody ranks with the factors that our fit left, except RePlay, which fits its own. \
Ours, MLlib and RePlay write Parquet; implicit and NumPy keep nothing. MLlib takes {margin} items \
more than it needs and removes bought ones, so heavy buyers may be left with fewer than k."""
BLUE, GREY = "#1b6ca8", "#9aa5ad"


@dataclass(frozen=True)
class Run:
    """One measurement.

    Attributes:
        task: what was done.
        name: of the contender.
        turn: from 1.
        failure: why there is no result; empty where there is one.
        seconds: phase → seconds.
        facts: what else the process told.
        versions: of what it used.
        memory: part → peak in bytes.
    """

    task: str
    name: str
    turn: int
    failure: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)

    def took(self, phase: str) -> float:
        """Return the seconds of a phase, or of all."""
        return sum(self.seconds.values()) if phase == ALL else self.seconds[phase]


@dataclass(frozen=True)
class Spread:
    """Least, median and most of some turns."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise values."""
        return cls(min(values), median(values), max(values))


@dataclass(frozen=True)
class Line:
    """One contender's results in one task.

    Attributes:
        task: what was done.
        name: of the contender.
        turns: that succeeded.
        failure: why it failed, empty where it never did.
        seconds: phase, or all → seconds.
        ratios: the phase that counts, and all → ours ÷ theirs; empty for ours.
        memory: part → highest peak in bytes.
    """

    task: str
    name: str
    turns: int
    failure: str
    seconds: dict[str, Spread]
    ratios: dict[str, Spread]
    memory: dict[str, int]


def table(runs: Sequence[Run]) -> list[Line]:
    """Summarise runs, one line a task and contender, in the order in which they first ran."""
    names = dict.fromkeys((run.task, run.name) for run in runs)
    return [_line(runs, task, name) for task, name in names]


def _line(runs: Sequence[Run], task: str, name: str) -> Line:
    mine = [run for run in runs if (run.task, run.name) == (task, name)]
    good = [run for run in mine if not run.failure]
    base = {r.turn: r for r in runs if (r.task, r.name, r.failure) == (task, OURS, "")}
    pairs = [(base[run.turn], run) for run in good if run.turn in base and name != OURS]
    phases = [*good[0].seconds, ALL] if good else []
    return Line(
        task,
        name,
        len(good),
        next((run.failure for run in mine if run.failure), ""),
        {phase: Spread.of([run.took(phase) for run in good]) for phase in phases},
        {
            phase: Spread.of([ours.took(phase) / theirs.took(phase) for ours, theirs in pairs])
            for phase in (ALONE[task], ALL)
            if pairs
        },
        {part: max(run.memory[part] for run in good) for part in (good[0].memory if good else ())},
    )


def told(run: Run) -> str:
    """Say in a few words how a run went."""
    if run.failure:
        return run.failure
    phases = ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in run.seconds.items())
    return f"{phases}; {run.memory['all'] / 2**20:,.0f} MiB"


def runs_of(found: dict[str, Any]) -> list[Run]:
    """Return the runs that a report's JSON holds."""
    return [Run(**values) for values in found["runs"]]


def write(found: dict[str, Any], output: Path, name: str) -> None:
    """Write NAME.json, NAME.md and NAME.png into a folder."""
    lines = table(runs_of(found))
    (output / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    (output / f"{name}.md").write_text("\n".join(markdown(found, lines, name)) + "\n", "utf-8")
    picture(lines, _title(found)).savefig(output / f"{name}.png", dpi=110)


def markdown(found: dict[str, Any], lines: Sequence[Line], name: str) -> Iterator[str]:
    """Yield the report's lines."""
    settings, machine = found["settings"], found["machine"]
    yield f"# {_title(found)}\n"
    yield (
        f"{settings['factors']} factors, {settings['iterations']} iterations, "
        f"k = {settings['k']}, {settings['neighbours']} neighbours; turns: {settings['repeats']}.\n"
    )
    yield f"![seconds]({name}.png)"
    for task in dict.fromkeys(line.task for line in lines):
        yield f"\n## {TITLES[task]}\n"
        yield from _task([line for line in lines if line.task == task], ALONE[task])
    yield "\n" + NOTES.format(margin=settings["margin"])
    yield "\n## Machine\n"
    yield (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, "
        f"{machine['system']}; Spark drivers with {settings['driver_memory']}; "
        f"commit {machine['commit']}; data {found['data']['digest'][:12]}."
    )
    for run in {run.name: run for run in runs_of(found) if run.versions}.values():
        facts = "".join(f"; {key} {value}" for key, value in run.facts.items())
        versions = ", ".join(f"{key} {value}" for key, value in run.versions.items())
        yield f"- {run.task}, {run.name}: {versions}{facts}"


def _title(found: dict[str, Any]) -> str:
    data = found["data"]
    return (
        f"{data['name']}: {data['interactions']:,} interactions, "
        f"{data['customers']:,} customers × {data['items']:,} items"
    )


def _task(lines: Sequence[Line], alone: str) -> Iterator[str]:
    """Yield one task's table."""
    yield (
        f"| | {alone}, s | ratio | {ALL}, s | ratio | phases, s "
        "| first process, MiB | JVM | workers | together |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for line in lines:
        if not line.turns:
            yield f"| {line.name} | {line.failure} | | | | | | | | |"
            continue
        phases = " + ".join(f"{p} {s.median:.2f}" for p, s in line.seconds.items() if p != ALL)
        memory = " | ".join(f"{value / 2**20:,.0f}" for value in line.memory.values())
        failure = f" ({line.failure})" if line.failure else ""
        cells = [
            told_spread(values.get(phase))
            for phase in (alone, ALL)
            for values in (line.seconds, line.ratios)
        ]
        yield f"| {line.name}{failure} | {' | '.join(cells)} | {phases} | {memory} |"


def told_spread(spread: Spread | None) -> str:
    """Write a spread for a table."""
    if spread is None:
        return ""
    return f"**{spread.median:.2f}** ({spread.least:.2f} – {spread.most:.2f})"


def picture(lines: Sequence[Line], title: str) -> Figure:
    """Draw the seconds of every task, a bar a contender, with the spread."""
    tasks = list(dict.fromkeys(line.task for line in lines))
    done = {task: [n for n in lines if n.task == task and n.turns] for task in tasks}
    heights = [max(1, len(done[task])) for task in tasks]
    figure = Figure(figsize=(8, 1.2 + 0.42 * sum(heights) + 0.5 * len(tasks)), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(tasks), 1, squeeze=False, height_ratios=heights)
    for axes, task in zip(grid[:, 0], tasks, strict=True):
        spreads = [line.seconds[ALONE[task]] for line in done[task]]
        middle = [spread.median for spread in spreads]
        below = [spread.median - spread.least for spread in spreads]
        above = [spread.most - spread.median for spread in spreads]
        names = [line.name for line in done[task]]
        colours = [BLUE if name.startswith(OURS) else GREY for name in names]
        bars = axes.barh(names, middle, xerr=[below, above], color=colours, capsize=3)
        axes.bar_label(bars, [f"{value:.1f}" for value in middle], padding=6)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_title(f"{TITLES[task]}, seconds", loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    return figure
