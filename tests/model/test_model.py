"""Random histories: the memory backend is the model, a SQLite file the system under test.

Two handles on each, one clock. Every operation must answer the same on both sides, and afterwards
every row must be the same and be what the log says. A failure prints the shortest history that
shows it, as a program, and the line that plays it again.

``HYPOTHESIS_PROFILE=long`` plays many more and longer histories.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from .queue_rules import QueueRules
from .run_rules import RunRules
from .stream_rules import StreamRules

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

pytestmark = pytest.mark.timeout(7200 if LONG else 600)


class Histories(RunRules, QueueRules, StreamRules):
    """Runs, queue and streams in one history."""


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=1000 if LONG else 30,
    stateful_step_count=80 if LONG else 30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
