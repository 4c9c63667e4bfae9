"""Pictures of a batch run for the MLflow UI; each function returns a matplotlib figure."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from deploy.audits import Finding
from recsys.plots import COLOURS, HEIGHT, WIDTH, plain

PASSED, FAILED = "#3a7d44", COLOURS["replenish"]


def audits(findings: Sequence[Finding]) -> Figure:
    """Show each audit with its value and its limit, the failed ones in another colour."""
    figure = Figure(figsize=(WIDTH, 0.6 + 0.34 * len(findings)), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    for row, finding in enumerate(findings):
        mark, colour = ("passed", PASSED) if finding.passed else ("FAILED", FAILED)
        for x, text in (
            (0.0, mark),
            (0.12, finding.audit.replace("_", " ")),
            (0.42, f"{finding.value:.4g}"),
            (0.58, finding.limit),
        ):
            axes.text(x, -row, text, color=colour if x == 0 else "black", va="center")
    axes.set(ylim=(-len(findings), 1), title="audits of the table")
    return figure


def sources(rows: Mapping[str, int]) -> Figure:
    """Draw how many recommendations came from each rung of the ladder."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(rows), list(rows.values()), color=COLOURS["discover"])
    axes.invert_yaxis()
    axes.set(title="where the recommendations come from", xlabel="rows")
    return plain(figure)
