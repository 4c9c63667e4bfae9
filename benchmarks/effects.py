"""Prove the statistics of campaigns: experiments of which the true effect is known.

Prints, and writes as Markdown, JSON and a picture: how often the 95 % interval holds the true
effect, how often a campaign without effect is called one, what CUPED takes away, and what became of
plans. See benchmarks/known_effects.py for how an experiment is drawn.

  python -m benchmarks.effects --output out/effects
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from benchmarks import command
from benchmarks.known_effects import (
    Line,
    Planned,
    Ratios,
    experiments,
    plans,
    ratios,
)
from benchmarks.population import SEED, population
from recsys.plots import HEIGHT, WIDTH, plain
from recsys.progress import say, stage

# Customers of an experiment, and the share of them that is held out.
DESIGNS = ((2_000, 0.5), (2_000, 0.1), (10_000, 0.1))
CONTROL_SHARES = (0.5, 0.1)
COLOURS = {(2_000, 0.5): "#1b6ca8", (2_000, 0.1): "#c8553d", (10_000, 0.1): "#6a994e"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the population, run the experiments, print and write."""
    options = _parser().parse_args(arguments)
    count, seed = options.experiments, options.seed
    with stage(f"population of {options.customers:,} customers"):
        people = population(options.customers, seed)
    lines: list[Line] = []
    for customers, share in DESIGNS:
        with stage(f"{count:,} experiments of {customers:,} customers, {share:.0%} held out"):
            lines += experiments(people, customers, share, count, seed)
    with stage("plans"):
        planned = plans(people, count, seed)
    with stage("sample ratios"):
        checked = [ratios(share, count, 20 * count, seed) for share in CONTROL_SHARES]
    text = "\n".join(report(lines, planned, checked, count))
    say(text)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "effects.md").write_text(text + "\n", "utf-8")
        found = {
            "lines": [asdict(line) for line in lines],
            "plans": [asdict(plan) for plan in planned],
            "sample_ratios": [asdict(ratio) for ratio in checked],
        }
        (options.output / "effects.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        picture(lines, count).savefig(options.output / "effects.png", dpi=110)


def report(
    lines: Sequence[Line], planned: Sequence[Planned], checked: Sequence[Ratios], count: int
) -> Iterator[str]:
    """Yield the lines of Markdown tables."""
    error = 1.96 * np.sqrt(0.95 * 0.05 / count)
    yield (
        f"{count:,} experiments a row; chance alone moves a share of 95 % or 5 % by "
        f"± {error:.1%} (95 % of the time).\n"
    )
    yield "| customers | held out | metric | method | true effect | mean estimate | coverage | "\
        "interval too low, too high | false alarms (A/A) | found |"  # fmt: skip
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for line in lines:
        yield (
            f"| {line.customers:,} | {line.control_share:.0%} | {line.metric} | {line.method} "
            f"| {line.true:.4f} | {line.mean:.4f} | **{line.coverage:.1%}** "
            f"| {line.below:.1%}, {line.above:.1%} | {line.false_alarms:.1%} | {line.power:.0%} |"
        )
    yield ""
    yield "| customers | held out | CUPED of | ρ² | variance it took away | as it says itself |"
    yield "|---|---|---|---|---|---|"
    for line in lines:
        if line.reduction_theory is not None:
            yield (
                f"| {line.customers:,} | {line.control_share:.0%} | {line.metric} "
                f"| {line.reduction_theory:.1%} | {line.reduction_found:.1%} "
                f"| {line.reduction:.1%} |"
            )
    yield ""
    yield "| plan for | method | effect | customers | planned power | found |"
    yield "|---|---|---|---|---|---|"
    for plan in planned:
        yield (
            f"| {plan.metric} | {plan.method} | {plan.effect:+.1%} | {plan.customers:,} "
            f"| {plan.power:.0%} | {plan.found:.1%} |"
        )
    yield ""
    yield "| held out | customers planned to show 1 % of control missing | planned power | caught "\
        "| false alarms of sound arms |"  # fmt: skip
    yield "|---|---|---|---|---|"
    for ratio in checked:
        yield (
            f"| {ratio.control_share:.0%} | {ratio.customers:,} | {ratio.planned_power:.0%} "
            f"| {ratio.caught:.1%} | {ratio.false_alarms:.2%} |"
        )


def picture(lines: Sequence[Line], count: int) -> Figure:
    """Draw coverage and false alarms beside what is promised, with what chance does to them."""
    figure = Figure(figsize=(1.4 * WIDTH, HEIGHT), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys((line.metric, line.method) for line in lines))
    designs = list(dict.fromkeys((line.customers, line.control_share) for line in lines))
    for axes, field, nominal in ((left, "coverage", 95.0), (right, "false_alarms", 5.0)):
        axes.axvspan(nominal - 1.5, nominal + 1.5, color="#dddddd", alpha=0.5, linewidth=0)
        axes.axvline(nominal, color="#888888", linewidth=1)
        for place, design in enumerate(designs):
            chosen = [line for line in lines if (line.customers, line.control_share) == design]
            shares = np.array([getattr(line, field) for line in chosen])
            rows = np.array([names.index((line.metric, line.method)) for line in chosen])
            ends = [
                stats.binomtest(round(share * count), count).proportion_ci(method="wilson")
                for share in shares
            ]
            margins = [shares - [e.low for e in ends], np.array([e.high for e in ends]) - shares]
            axes.errorbar(
                100 * shares, rows + 0.22 * (place - 1), xerr=100 * np.array(margins), fmt="o",
                capsize=3, color=COLOURS.get(design, "#888888"),
                label=f"{design[0]:,} customers, {design[1]:.0%} held out",
            )  # fmt: skip
    left.set_yticks(range(len(names)), [f"{metric}, {method}" for metric, method in names])
    left.invert_yaxis()
    left.set(title="95 % intervals that hold the true effect", xlabel="% of experiments")
    right.set(title="A/A: intervals that leave 0 out", xlabel="% of experiments")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return plain(figure)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("effects", __doc__)
    for name, value in (("experiments", 1_000), ("customers", 20_000), ("seed", SEED)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--output", type=Path, help="folder for effects.md, .json and .png")
    return parser


if __name__ == "__main__":
    main()
