"""Proving a store: what must always hold, looked at on any backend, and what can be mended.

::

    report = await check(world)             # reads only; also beside live workers
    for finding in report.findings:
        print(finding.kind, finding.run_id, finding.detail)
    plan = plan_repairs(report)             # what would be done, and what is left to a person
    done = await apply(world, plan)         # does it; safe to repeat

The rules are in ``workflow_world.core.invariants``; ``docs/check.md`` explains each finding.
"""

from ..core.invariants import Finding
from .checker import check
from .kinds import KINDS, Kind
from .plan import Plan, Repair, plan_repairs
from .repair import Outcome, apply
from .report import Progress, Report

__all__ = [
    "KINDS",
    "Finding",
    "Kind",
    "Outcome",
    "Plan",
    "Progress",
    "Repair",
    "Report",
    "apply",
    "check",
    "plan_repairs",
]
