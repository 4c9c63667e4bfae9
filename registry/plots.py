"""Pictures for reviewers."""

from typing import Any

from matplotlib.figure import Figure


def differences(rows: list[dict[str, Any]], metric: str) -> Figure:
    """Draw each run's paired difference from the champion with its 95 % interval."""
    others = [row for row in rows if row["role"] != "champion"]
    figure = Figure(figsize=(7.5, 1.6 + 0.5 * len(others)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(others):
        reliable = row["low"] > 0 or row["high"] < 0
        axes.plot([row["low"], row["high"]], [place, place], color="#1b6ca8", linewidth=2)
        axes.plot(row["difference"], place, "o", color="#1b6ca8" if reliable else "#888888")
    axes.axvline(0, color="#444444", linewidth=1)
    axes.set_yticks(range(len(others)), [f"{row['run']} ({row['role']})" for row in others])
    axes.set_ylim(-0.7, len(others) - 0.3)
    axes.set(
        title="Paired difference from the champion, 95 % interval",
        xlabel=f"difference in test {metric}, mean over customers",
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure
