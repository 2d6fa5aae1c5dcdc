"""One SVG: how many times as fast as LocalWorld and as the floor ours is, and the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .plan import MEASURES
from .targets import ratio

TITLE = "workflow-world on SQLite, times as fast as the SDK's LocalWorld and as the floor"
_PEERS = (
    ("local", "#2563eb", "as LocalWorld"),
    ("floor", "#9ca3af", "as the floor, a World in memory that costs nothing"),
)
_HEIGHT = 0.38

Row = Mapping[str, Any]


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

    rows = [row for row in found["measures"] if any(ratio(row, peer) for peer, _, _ in _PEERS)]
    if not rows:
        return False
    figure, axes = pyplot.subplots(figsize=(9, 1.6 + 0.42 * len(rows)), layout="constrained")
    for (peer, color, label), side in zip(_PEERS, (-1, 1), strict=True):
        _bars(axes, rows, peer, side * _HEIGHT / 2, color, label)
    _marks(axes, rows)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("times as fast, log scale: right of 1 is faster", fontsize=8)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    figure.suptitle(TITLE, fontsize=11)
    figure.legend(fontsize=8, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True


def _bars(axes: Any, rows: Sequence[Row], peer: str, offset: float, color: str, label: str) -> None:
    found = [
        (place + offset, _speed(row, value), _wanted(row, peer))
        for place, row in enumerate(rows)
        if (value := ratio(row, peer)) is not None
    ]
    if not found:
        return
    axes.barh(
        [place for place, _, _ in found],
        [speed - 1 for _, speed, _ in found],
        _HEIGHT,
        left=1,
        color=color,
        label=label,
    )
    for place, speed, wanted in found:
        _number(axes, place, speed, wanted)


def _number(axes: Any, place: float, speed: float, wanted: float | None) -> None:
    """Beside the end of the bar, or beside its mark if that is where the number would be."""
    right, end = speed >= 1, speed
    if wanted is not None and speed / 3 < wanted < speed * 3:
        end = max(speed, wanted) if right else min(speed, wanted)
    axes.annotate(
        f"{speed:,.0f}×" if speed >= 100 else f"{speed:.2g}×",
        (end, place),
        xytext=(4 if right else -4, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        fontsize=7,
    )


def _marks(axes: Any, rows: Sequence[Row]) -> None:
    """A line across the bar at the speed that is wanted of it."""
    found = [
        (wanted, place + side * _HEIGHT / 2)
        for place, row in enumerate(rows)
        for (peer, _, _), side in zip(_PEERS, (-1, 1), strict=True)
        if ratio(row, peer) is not None and (wanted := _wanted(row, peer)) is not None
    ]
    if not found:
        return
    axes.scatter(
        [speed for speed, _ in found],
        [place for _, place in found],
        marker="|",
        s=110,
        linewidths=2,
        color="#dc2626",
        zorder=3,
        label="target",
    )


def _wanted(row: Row, peer: str) -> float | None:
    """The speed that a target names for ours against this peer."""
    for target in MEASURES[row["name"]].targets:
        if target.subject == "ours" and target.peer == peer:
            return _speed(row, target.limit)
    return None


def _label(row: Row) -> str:
    """Without the part that says how it is measured, which makes room for the bars."""
    return str(row["title"]).removesuffix(", p50")


def _speed(row: Row, value: float) -> float:
    return value if row["better"] == "higher" else 1 / value
