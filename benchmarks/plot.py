"""One SVG: how many times faster ours is than LocalWorld, and how near the floor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .report import ratio

_COLORS = {"local": "#2563eb", "floor": "#9ca3af"}
_LABELS = {"local": "LocalWorld", "floor": "zero-cost in-memory World"}


def draw(path: Path, found: Mapping[str, Any]) -> bool:
    """Write the plot. Returns: False when matplotlib is missing or nothing can be compared."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "workflow-world"
    from matplotlib import pyplot

    rows = [row for row in found["measures"] if ratio(row, "local") or ratio(row, "floor")]
    if not rows:
        return False
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.42 * len(rows)))
    height = 0.38
    for offset, peer in ((-height / 2, "local"), (height / 2, "floor")):
        places = [(place, speed) for place, row in enumerate(rows) if (speed := _speed(row, peer))]
        bars = axes.barh(
            [place + offset for place, _ in places],
            [speed - 1 for _, speed in places],
            height,
            left=1,
            color=_COLORS[peer],
            label=f"than the {_LABELS[peer]}" if peer == "floor" else f"than {_LABELS[peer]}",
        )
        axes.bar_label(bars, [f"{speed:.2g}×" for _, speed in places], padding=3, fontsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("workflow-world on SQLite, times as fast (right of 1 is faster)", fontsize=8)
    axes.legend(fontsize=8, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True


def _speed(row: Mapping[str, Any], peer: str) -> float | None:
    value = ratio(row, peer)
    if value is None or row["better"] == "higher":
        return value
    return 1 / value
