"""``resolve_data="none"`` removes exactly the payloads (spec 3.5, B111)."""

from __future__ import annotations

import pytest
from ledger import RUN, Ledger

from workflow_world.core.entities import ABSENT, EventResult
from workflow_world.core.resolve import result_without_payloads, wants_payloads, without_payloads
from workflow_world.errors import InvalidRequestError

KEPT = {
    "run_created": {"deploymentId": "dpl", "workflowName": "greet"},
    "run_started": None,
    "attr_set": {"changes": [{"key": "k", "value": "v"}], "writer": {"type": "workflow"}},
    "step_created": {"stepName": "work"},
    "step_started": None,
    "step_retrying": None,
    "step_completed": None,
    "hook_created": {"token": "tok"},
    "hook_received": None,
    "run_failed": {"errorCode": "BAD"},
}


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.start()
    ledger.send("attr_set", "a")
    ledger.send("step_created", "s")
    ledger.send("step_started", "s")
    ledger.send("step_retrying", "s")
    ledger.send("step_completed", "s")
    ledger.send("hook_created", "h", {"token": "tok", "metadata": b"meta"})
    ledger.send("hook_received", "h")
    return ledger


def test_events(ledger: Ledger) -> None:
    ledger.send("run_failed")
    for event in ledger.log():
        bare = without_payloads(event)
        assert bare.event_data == KEPT[event.event_type], event.event_type
        assert (bare.event_id, bare.created_at) == (event.event_id, event.created_at)
    assert set(ledger.types()) == set(KEPT)


def test_entities(ledger: Ledger) -> None:
    run, step, hook = ledger.run(), ledger.step("s"), ledger.hook("h")
    assert run is not None
    assert step is not None
    assert hook is not None
    bare_run, bare_step = without_payloads(run), without_payloads(step)
    assert (bare_run.input, bare_run.attributes) == (ABSENT, {"k": "v"})
    assert (bare_step.input, bare_step.output, bare_step.error) == (ABSENT, ABSENT, ABSENT)
    assert step.error == b"again"
    assert without_payloads(hook).metadata is ABSENT
    assert without_payloads(hook).token == "tok"  # noqa: S105


@pytest.mark.parametrize("error", [{"message": "m"}, "text", None, b"bytes", b""])
def test_only_errors_of_bytes_are_removed(error: object) -> None:
    ledger = Ledger()
    ledger.start()
    ledger.send("run_failed", data={"error": error})
    run = ledger.run(RUN)
    assert run is not None
    assert without_payloads(run).error == (ABSENT if isinstance(error, bytes) else error)


def test_results(ledger: Ledger) -> None:
    result = result_without_payloads(ledger.send("hook_created", "h2", {"token": "t2"}))
    assert result.hook is not None
    assert result.hook.metadata is ABSENT
    assert result_without_payloads(EventResult()) == EventResult()


def test_the_choices() -> None:
    assert wants_payloads("all")
    assert not wants_payloads("none")
    for wrong in ("", "ALL", "some"):
        with pytest.raises(InvalidRequestError):
            wants_payloads(wrong)
