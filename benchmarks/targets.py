"""The targets of plan.py, held against the figures of one command."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .plan import MEASURES, Target


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target whose figures were measured. ``value`` is what ``target.limit`` is about."""

    row: Mapping[str, Any]
    target: Target
    value: float

    @property
    def met(self) -> bool:
        if self.row["better"] == "higher":
            return self.value >= self.target.limit
        return self.value <= self.target.limit

    @property
    def wanted(self) -> str:
        sign = "≥" if self.row["better"] == "higher" else "≤"
        limit = f"{sign} {self.target.limit:.3g}"
        if self.target.peer is None:
            return f"{limit} {self.row['unit']}"
        return f"{limit} × `{self.target.peer}`"


def verdicts(found: Mapping[str, Any]) -> list[Verdict]:
    """In the order of the plan; a target without all of its figures is left out."""
    return [
        Verdict(row, target, value)
        for row in found["measures"]
        for target in MEASURES[row["name"]].targets
        if (value := _value(row, target)) is not None
    ]


def _value(row: Mapping[str, Any], target: Target) -> float | None:
    medians: Mapping[str, float] = row["medians"]
    if target.subject not in medians:
        return None
    if target.peer is None:
        return medians[target.subject]
    return ratio(row, target.peer, target.subject)


def ratio(row: Mapping[str, Any], peer: str, subject: str = "ours") -> float | None:
    """The median of the ratios that the rounds gave, subject to peer: what slows the machine for
    minutes slows both. None when one of them is missing."""
    mine, theirs = row["values"].get(subject, ()), row["values"].get(peer, ())
    if not mine or not theirs or not all(theirs):
        return None
    if len(mine) != len(theirs):  # one failed in some round
        return float(statistics.median(mine) / statistics.median(theirs))
    return float(statistics.median(a / b for a, b in zip(mine, theirs, strict=True)))
