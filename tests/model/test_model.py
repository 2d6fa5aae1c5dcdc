"""Random histories: the memory backend is the model, a SQLite file the system under test.

Two handles on each, one clock. Every operation must answer the same on both sides, and afterwards
every row must be the same and be what the log says. A failure prints the shortest history that
shows it, as a program, and the line that plays it again.

``HYPOTHESIS_PROFILE=long`` plays many more and longer histories.
"""

from __future__ import annotations

import os
from unittest import TestCase

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine

from .queue_rules import QueueRules
from .run_rules import RunRules
from .stream_rules import StreamRules

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

pytestmark = pytest.mark.timeout(7200 if LONG else 600)


class RunHistories(RunRules, StreamRules):
    """Events, reads and streams."""


class QueueHistories(QueueRules):
    """Messages and the sweep, with the few events that they depend on."""


class Histories(RunRules, QueueRules, StreamRules):
    """All of it at once."""


def played(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> type[TestCase]:
    """The machine as a test case."""
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples * (40 if LONG else 1),
        stateful_step_count=steps * (2 if LONG else 1),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return case


TestRunHistories = played(RunHistories, 30, 30)
TestQueueHistories = played(QueueHistories, 40, 40)
TestHistories = played(Histories, 10, 30)
