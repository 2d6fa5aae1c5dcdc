"""Random histories: the memory backend is the model, each SQL engine the system under test.

Two handles on each, one clock. Every operation must answer the same on both sides, and afterwards
every row must be the same and be what the log says. A failure prints the shortest history that
shows it, as a program, and the line that plays it again.

``HYPOTHESIS_PROFILE=long`` plays many more and longer histories.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from servers.engines import Running

from .machine import Machine
from .queue_rules import QueueRules
from .run_rules import RunRules
from .stream_rules import StreamRules

COST = {
    "sqlite": 1,
    "postgres": 4,
    "mongodb": 4,
    "libsql": 12,
    "libsql-auth": 40,
    "libsql-replica": 40,
}
"""A server costs more than a file, and most rules are the same code."""

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

pytestmark = pytest.mark.timeout(7200 if LONG else 600)


class RunHistories(RunRules, StreamRules):
    """Events, reads and streams."""


class QueueHistories(QueueRules):
    """Messages and the sweep, with the few events that they depend on."""


class Histories(RunRules, QueueRules, StreamRules):
    """All of it at once."""


@pytest.mark.parametrize("name", COST)
@pytest.mark.parametrize(
    ("histories", "examples", "steps"),
    [(RunHistories, 30, 30), (QueueHistories, 40, 40), (Histories, 10, 30)],
)
def test_every_engine_does_as_the_model(
    engines: Running, name: str, histories: type[Machine], examples: int, steps: int
) -> None:
    has_replicas = name == "libsql-replica"
    if has_replicas and find_spec("libsql_experimental") is None:
        pytest.skip("the stock driver has no wheel here")
    about = {
        "engine": engines("libsql" if has_replicas else name),
        "has_replicas": has_replicas,
    }
    machine = type(histories.__name__, (histories,), about)
    examples = max(1, examples * (40 if LONG else 1) // COST[name])
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps * (2 if LONG else 1),
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
