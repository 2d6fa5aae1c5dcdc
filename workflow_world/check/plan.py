"""From findings to repairs: what the World's own operations can mend, and what they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ..core.decision import RUN_CHANGES, STEP_CHANGES
from ..core.invariants import Finding
from .report import Report

Action: TypeAlias = Literal["wake", "free-leases", "delete-message", "rebuild"]

_REBUILT: Final = ("step-missing", "hook-missing", "hook-unexpected", "hook-of-ended-run")
_CHANGEABLE: Final = {
    "run-differs": frozenset(RUN_CHANGES),
    "step-differs": frozenset(STEP_CHANGES),
    "wait-due": frozenset({"due_at"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One thing to do; each is safe to do twice, and beside live workers.

    Attributes:
        action: ``wake`` enqueues the message that a run lacks; ``free-leases`` gives messages
            back whose lease ran out; ``delete-message`` deletes a message that can do nothing;
            ``rebuild`` writes rows of a run as its log has them.
        text: what will be done.
        findings: what it mends.
    """

    action: Action
    text: str
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``left`` are the findings that nothing here can mend: ``KINDS`` has advice for each."""

    repairs: Sequence[Repair] = ()
    left: Sequence[Finding] = ()


def plan_repairs(report: Report) -> Plan:
    """What can be done about the findings of a report. Changes nothing."""
    repairs: list[Repair] = []
    left: list[Finding] = []
    leases: list[Finding] = []
    rows: dict[str, list[Finding]] = {}
    for one in report.findings:
        if one.wake_up is not None:
            step = f", step {one.wake_up.step_id}" if one.wake_up.step_id else ""
            text = f"enqueue a message for run {one.run_id}{step}: {one.detail}"
            repairs.append(Repair(action="wake", text=text, findings=(one,)))
        elif one.kind == "lease-expired":
            leases.append(one)
        elif one.kind == "message-orphan":
            text = f"delete message {one.subject}: run {one.run_id} does not exist"
            repairs.append(Repair(action="delete-message", text=text, findings=(one,)))
        elif one.run_id is not None and can_be_rebuilt(one):
            rows.setdefault(one.run_id, []).append(one)
        else:
            left.append(one)
    if leases:
        text = f"give {len(leases)} message{'s' * (len(leases) > 1)} with expired leases back"
        repairs.append(Repair(action="free-leases", text=text, findings=tuple(leases)))
    for run_id, findings in rows.items():
        what = ", ".join(_named(one) for one in findings)
        text = f"write from the log of run {run_id}: {what}"
        repairs.append(Repair(action="rebuild", text=text, findings=tuple(findings)))
    # Rows first: what is woken then reads them as they must be.
    repairs.sort(key=lambda repair: repair.action != "rebuild")
    return Plan(repairs=tuple(repairs), left=tuple(left))


def can_be_rebuilt(finding: Finding) -> bool:
    """Whether the seam can write the row as the log has it.

    It can for whatever events change. What a row is born with, such as its name and input, no
    event changes; and a row of which the log knows nothing may be all that is left of something.
    """
    if finding.kind in _REBUILT:
        return True
    changeable = _CHANGEABLE.get(finding.kind, frozenset[str]())
    return bool(finding.fields) and changeable.issuperset(finding.fields)


def _named(finding: Finding) -> str:
    what = finding.kind.partition("-")[0]
    if what == "run":
        return ", ".join(finding.fields)
    gone = finding.kind in ("hook-unexpected", "hook-of-ended-run")
    return f"{what} {finding.subject}{' (delete)' if gone else ''}"
