"""Results as JSON and as a Markdown table: medians, spread and ratios."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .contenders import CONTENDERS, CONTENDERS_BY_NAME
from .measure import Values
from .plan import MEASURES
from .targets import ratio, verdicts

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
PEERS = (
    "local",
    "floor",
    "floor-durable",
    "floor-statements",
    "raw",
    "httpx",
    "huey",
    "huey-full",
    "dbos",
    "floor-durable-pg",
    "raw-pg",
    "pgqueuer",
    "dbos-pg",
)
"""In the order in which ratios are given: LocalWorld and the floor first."""
SUBJECTS = ("ours", "ours-pg", "ours-sqld")
"""The first that was measured is whose ratios are given."""


def results(
    values: Values, machine: Mapping[str, object], command: str, rounds: int, failures: list[str]
) -> dict[str, Any]:
    """What is kept: every value, and the machine and command it came from."""
    return {
        "command": command,
        "rounds": rounds,
        "machine": dict(machine),
        "failures": failures,
        "measures": [
            {
                "name": measure.name,
                "title": measure.title,
                "unit": measure.unit,
                "better": measure.better,
                "values": values[measure.name],
                "medians": {
                    name: statistics.median(found) for name, found in values[measure.name].items()
                },
            }
            for measure in MEASURES.values()
            if measure.name in values
        ],
    }


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=2) + "\n")


def markdown(found: Mapping[str, Any]) -> str:
    """The whole generated part: machine, command, ratios, medians with spread."""
    machine = found["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in machine["packages"].items())
    rows: Sequence[Mapping[str, Any]] = found["measures"]
    names = [one.name for one in CONTENDERS if any(one.name in row["medians"] for row in rows)]
    lines = [
        f"`{found['command']}`: medians of {found['rounds']} rounds on {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"{machine['python']}, SQLite {machine['sqlite']}, {versions}.",
        "",
        *_targets(found),
        *_ratios(rows),
        "### Medians, and the lowest and highest round",
        "",
        *_table(
            ["measure", *names],
            [[_title(row), *(_median_cell(row, name) for name in names)] for row in rows],
        ),
        "",
        *(f"- `{name}`: {CONTENDERS_BY_NAME[name].title}" for name in names),
    ]
    if found["failures"]:
        lines += ["", "Failed:", "", *(f"- {text.splitlines()[0]}" for text in found["failures"])]
    return "\n".join(lines)


def insert(path: Path, text: str, section: str = "") -> None:
    """Replace what stands between the two marks of a section. Raises: ValueError when a mark is
    missing."""
    first, last = (
        mark.replace("benchmarks", f"benchmarks-{section}" if section else "benchmarks")
        for mark in (BEGIN, END)
    )
    page = path.read_text()
    head, begin, rest = page.partition(first)
    _, end, tail = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{path} has no {first} … {last}")
    path.write_text(f"{head}{first}\n\n{text}\n\n{last}{tail}")


def _targets(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            _title(one.row) + ("" if one.target.subject == "ours" else f", `{one.target.subject}`"),
            one.wanted,
            _number(one.value),
            "yes" if one.met else "**no**",
        ]
        for one in verdicts(found)
    ]
    if not rows:
        return []
    return ["### Targets", "", *_table(["measure", "target", "value", "met"], rows), ""]


def _ratios(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    subject = next((one for one in SUBJECTS if any(one in row["medians"] for row in rows)), "ours")
    peers = [peer for peer in PEERS if any(ratio(row, peer, subject) is not None for row in rows)]
    if not peers:
        return []
    table = [
        [_title(row), *cells]
        for row in rows
        if any(cells := [_ratio_cell(row, peer, subject) for peer in peers])
    ]
    return [
        f"### Ratios: {subject} / peer",
        "",
        "For measures marked ↑ a ratio over 1 means that ours is better, for ↓ one under 1.",
        "**Bold**: ours is better. *Italic*: the rounds of the two overlap.",
        "",
        *_table(["measure", *(f"/ {peer}" for peer in peers)], table),
        "",
    ]


def _title(row: Mapping[str, Any]) -> str:
    arrow = "↑" if row["better"] == "higher" else "↓"
    return f"{row['title']}, {row['unit']} {arrow}"


def _ratio_cell(row: Mapping[str, Any], peer: str, subject: str) -> str:
    value = ratio(row, peer, subject)
    if value is None:
        return ""
    text = f"{value:.3g}"
    mine, others = row["values"][subject], row["values"][peer]
    if len(mine) > 1 and min(mine) <= max(others) and min(others) <= max(mine):
        return f"*{text}*"
    better = value > 1 if row["better"] == "higher" else value < 1
    return f"**{text}**" if better else text


def _median_cell(row: Mapping[str, Any], name: str) -> str:
    found = row["values"].get(name)
    if not found:
        return ""
    text = _number(row["medians"][name])
    if len(found) == 1:
        return text
    return f"{text} ({_number(min(found))} to {_number(max(found))})"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
