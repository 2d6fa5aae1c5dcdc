"""The targets of plan.py, held against the medians of one command."""

from __future__ import annotations

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
    """The subject's median divided by the peer's; None when one of them is missing."""
    medians = row["medians"]
    if subject not in medians or not medians.get(peer):
        return None
    return float(medians[subject] / medians[peer])
