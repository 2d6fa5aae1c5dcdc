"""Why a run is where it is, in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from workflow_world.core.entities import Hook, Message, Run, Step, Wait
from workflow_world.core.reasons import Facts, reasons
from workflow_world.testing.clock import START as NOW

QUEUE = "__wkf_step_charge"
TIMES = {"created_at": NOW, "updated_at": NOW}
RUN = Run(run_id="wrun_1", status="running", deployment_id="d", workflow_name="w", **TIMES)
STEP = Step(run_id="wrun_1", step_id="s1", step_name="charge", status="running", **TIMES)
MESSAGE = Message(
    message_id="msg_1",
    queue_name=QUEUE,
    payload=b"",
    max_attempts=3,
    available_at=NOW,
    run_id="wrun_1",
    **TIMES,
)
HOOK = Hook(
    run_id="wrun_1",
    hook_id="hook_1",
    token="s3cret",  # noqa: S106
    owner_id="o",
    project_id="p",
    environment="e",
    created_at=NOW,
)
AT = "2030-01-02T03:04:05.678Z"


def ago(seconds: float) -> Any:
    return NOW - timedelta(seconds=seconds)


def said(run: Run = RUN, **facts: Any) -> list[str]:
    return reasons(Facts(run=run, **facts), NOW)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, f"has been due for 0.0 s, and no worker of the queue {QUEUE} has taken it"),
        ({"available_at": ago(-90)}, "is due in 90 s (attempt 1 of 3)"),
        ({"available_at": ago(-119)}, "is due in 119 s"),
        ({"available_at": ago(-120)}, "is due in 2 min"),
        ({"available_at": ago(-7_200)}, "is due in 2 h"),
        ({"available_at": ago(-172_800)}, "is due in 2 d"),
        ({"available_at": ago(0.25)}, "has been due for 0.2 s"),
        (
            {"attempt": 2, "deliveries": 1, "last_error": {"message": "HTTP 500: no"}},
            "(attempt 2 of 3); last error: HTTP 500: no",
        ),
        ({"deliveries": 4}, "(attempt 1 of 3); 4 deliveries never came to an end"),
        (
            {"deliveries": 4, "last_error": {"message": "busy", "putOff": 3}},
            "(attempt 1 of 3); 1 deliveries never came to an end; last error: busy",
        ),
        (
            {
                "status": "processing",
                "deliveries": 1,
                "claimed_at": ago(12),
                "leased_until": ago(-20),
            },
            "is being delivered, for 12 s now (attempt 1 of 3)",
        ),
        (
            {"status": "processing", "deliveries": 1, "leased_until": ago(1)},
            "was being delivered when its worker vanished: the next worker takes it over",
        ),
    ],
)
def test_a_message(changes: dict[str, Any], expected: str) -> None:
    replay, step = replace(MESSAGE, **changes), replace(MESSAGE, step_id="s1", **changes)
    (about_run,) = said(messages=[replay])
    assert about_run.startswith("Its next replay ")
    assert expected in about_run
    (about_step,) = said(steps=[STEP], messages=[step])
    assert about_step == about_run.replace("Its next replay", "Step charge (s1)")


def test_all_that_is_waited_for() -> None:
    waits = [
        Wait(run_id="wrun_1", wait_id=name, status=status, resume_at=resume_at, **TIMES)
        for name, status, resume_at in (
            ("w1", "waiting", ago(-7_200)),
            ("w2", "completed", ago(5)),
            ("w3", "waiting", ago(5)),
            ("w4", "waiting", None),
        )
    ]
    assert said(steps=[STEP, replace(STEP, status="failed")], waits=waits, hooks=[HOOK]) == [
        "Step charge (s1) has no message: the run's next replay, or a worker's recovery, makes one",
        "It sleeps until 2030-01-02T05:04:05.678Z, for 2 h more (w1)",
        "Its sleep is over since 5.0 s (w3)",
        "It sleeps without an end (w4)",
        "It waits for the hook hook_1",
    ]


def test_a_run_that_nothing_drives() -> None:
    pending = replace(RUN, status="pending")
    (line,) = said(pending)
    assert line.startswith("No message asks a worker to start it")
    assert said(pending, messages=[MESSAGE])[0].startswith("Its start has been due")
    (line,) = said()
    assert line.startswith("Nothing is under way for it")
    given_up = replace(MESSAGE, step_id="s1", status="failed", last_error={"message": "boom"})
    assert said(steps=[STEP], messages=[given_up]) == [
        "Step charge (s1) was given up in attempt 1; last error: boom"
    ]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("completed", None, f"It completed at {AT}"),
        ("cancelled", None, f"It was cancelled at {AT}"),
        ("failed", "MAX_DELIVERIES_EXCEEDED", f"It failed at {AT}: MAX_DELIVERIES_EXCEEDED"),
    ],
)
def test_an_end(status: Any, code: str | None, expected: str) -> None:
    run = replace(RUN, status=status, completed_at=NOW, error_code=code)
    facts = {
        "steps": [replace(STEP, status="failed", attempt=4)],
        "messages": [
            replace(MESSAGE, status="failed", attempt=3, last_error={"message": "boom"}),
            replace(MESSAGE, status="completed"),
        ],
    }
    more = [
        "Step charge (s1) failed in attempt 4",
        "Message msg_1 was given up in attempt 3; last error: boom",
    ]
    assert said(run, **facts) == [expected, *(more if status == "failed" else [])]
