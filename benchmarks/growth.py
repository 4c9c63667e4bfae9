"""Draw how time grows with the data, from the reports of several comparisons.

For every contender: seconds per million interactions of its fit, and of scoring every customer.
A level line grows in proportion to the data.

  python -m benchmarks.growth out/bench/small.json out/bench/medium.json out/bench/large.json
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import command
from benchmarks.report import ALONE, BLUE, OURS, TITLES, runs_of, table
from recsys.progress import say

Points = dict[str, dict[str, list[tuple[float, float]]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the reports, draw."""
    options = _parser().parse_args(arguments)
    reports = []
    for path in options.reports:
        try:
            reports.append(json.loads(Path(path).read_text("utf-8")))
        except (OSError, ValueError):
            raise SystemExit(
                f"error: {path} is no report: give JSON files that benchmarks.speed wrote."
            ) from None
    picture(points(reports)).savefig(options.output, dpi=110)
    say(f"picture: {options.output}")


def points(reports: Sequence[dict[str, Any]]) -> Points:
    """Return task → contender → (million interactions, median seconds per million), rising."""
    found: Points = {}
    for report in sorted(reports, key=lambda report: int(report["data"]["interactions"])):
        millions = report["data"]["interactions"] / 1e6
        for line in table(runs_of(report)):
            if line.turns:
                seconds = line.seconds[ALONE[line.task]].median
                series = found.setdefault(line.task, {}).setdefault(line.name, [])
                series.append((millions, seconds / millions))
    return found


def picture(found: Points) -> Figure:
    """Draw a panel a task, a line a contender."""
    figure = Figure(figsize=(4.2 * len(found), 4.2), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    names = [OURS, *dict.fromkeys(n for series in found.values() for n in series if n != OURS)]
    colours = {name: f"C{number}" for number, name in enumerate(names)} | {OURS: BLUE}
    lines = {}
    for axes, (task, series) in zip(panels, found.items(), strict=True):
        for name, values in series.items():
            width = 2.5 if name == OURS else 1.2
            [lines[name]] = axes.plot(
                *zip(*values, strict=True), marker="o", color=colours[name], linewidth=width
            )
        axes.set(xscale="log", yscale="log", xlabel="million interactions", title=TITLES[task])
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=6, frameon=False)
    panels[0].set_ylabel("seconds per million interactions")
    return figure


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("growth", __doc__)
    parser.add_argument("reports", nargs="+", help="JSON files that benchmarks.speed wrote")
    parser.add_argument("--output", default="growth.png", help="picture; default: growth.png")
    return parser


if __name__ == "__main__":
    main()
