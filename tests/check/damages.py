"""The ways in which a store can be damaged, and the one finding that each has to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from workflow_world.codec import encode

from .stores import BUSY, ENDED, GONE, LEGACY, PENDING, STEPPING, Store, ms


@dataclass(frozen=True)
class Damage:
    """Statements with ``:busy``, ``:ended`` … for the ids of runs, and the finding they make."""

    kind: str
    run: str | None
    subject: str | None
    sql: tuple[str, ...]
    repaired: bool = False
    values: dict[str, Any] = field(default_factory=dict)


def damage(
    kind: str,
    run: str | None,
    subject: str | None,
    *sql: str,
    repaired: bool = False,
    **values: Any,
) -> Damage:
    return Damage(kind, run, subject, sql, repaired, values)


EVENT = "(run_id, position, event_id, event_type, correlation_id, spec_version, created_at)"
NEXT = "(SELECT max(position) + 1 FROM workflow_events WHERE run_id = :{0})"


def event(run: str, event_type: str, key: str | None, version: int) -> str:
    """One more event at the end of a log."""
    position = NEXT.format(run)
    number = f"'evnt_' || printf('%026d', {position})" if version >= 6 else f"'{LAST}'"
    correlation = "NULL" if key is None else f"'{key}'"
    return (
        f"INSERT INTO workflow_events {EVENT} SELECT :{run}, {position}, {number}, "  # noqa: S608
        f"'{event_type}', {correlation}, {version}, max(created_at) "
        f"FROM workflow_events WHERE run_id = :{run}"
    )


LAST = "evnt_7" + "Z" * 25
HOOK = (
    "INSERT INTO workflow_hooks (run_id, hook_id, token, owner_id, project_id, environment, "
    "created_at) VALUES (:{0}, 'hook_9', 'ninth', 'o', 'p', 'e', 1)"
)


def put(table: str, where: str, changes: str) -> str:
    return f"UPDATE {table} SET {changes} WHERE {where}"  # noqa: S608


def drop(table: str, where: str) -> str:
    return f"DELETE FROM {table} WHERE {where}"  # noqa: S608


DAMAGES = [
    damage("run-unreadable", BUSY, BUSY, put("workflow_runs", "run_id = :busy", "input = x'ff'")),
    damage(
        "run-unreadable", BUSY, BUSY, put("workflow_runs", "run_id = :busy", "attributes = '{'")
    ),
    damage(
        "run-unreadable",
        PENDING,
        PENDING,
        put("workflow_runs", "run_id = :pending", "execution_context = x'ff'"),
    ),
    damage(
        "run-unreadable",
        ENDED,
        ENDED,
        put("workflow_runs", "run_id = :ended", "started_at = 'noon'"),
    ),
    damage(
        "run-unreadable",
        ENDED,
        ENDED,
        put("workflow_runs", "run_id = :ended", "workflow_name = CAST(x'ff' AS TEXT)"),
    ),
    damage("run-missing", PENDING, PENDING, drop("workflow_runs", "run_id = :pending")),
    damage("run-without-log", PENDING, None, drop("workflow_events", "run_id = :pending")),
    damage(
        "run-differs",
        BUSY,
        BUSY,
        put("workflow_runs", "run_id = :busy", "error_code = 'X'"),
        repaired=True,
    ),
    damage(
        "run-differs",
        ENDED,
        ENDED,
        put("workflow_runs", "run_id = :ended", "output = NULL"),
        repaired=True,
    ),
    damage(
        "run-differs",
        PENDING,
        PENDING,
        put("workflow_runs", "run_id = :pending", 'attributes = \'{"x": "y"}\''),
        repaired=True,
    ),
    damage(
        "run-differs",
        PENDING,
        PENDING,
        put("workflow_runs", "run_id = :pending", "deployment_id = 'other'"),
    ),
    damage(
        "run-differs",
        LEGACY,
        LEGACY,
        put("workflow_runs", "run_id = :legacy", "deployment_id = 'other'"),
    ),
    damage(
        "run-stuck", PENDING, PENDING, drop("queue_messages", "run_id = :pending"), repaired=True
    ),
    damage(
        "run-stuck", STEPPING, "step_1", drop("queue_messages", "run_id = :stepping"), repaired=True
    ),
    damage(
        "run-blocked",
        STEPPING,
        STEPPING,
        put("queue_messages", "run_id = :stepping", "status = 'failed', processed_at = 5"),
    ),
    damage(
        "log-unreadable",
        BUSY,
        "5",
        put("workflow_events", "run_id = :busy AND position = 5", "event_data = x'ff'"),
    ),
    damage("log-gap", BUSY, None, drop("workflow_events", "run_id = :busy AND position = 5")),
    damage(
        "log-malformed",
        PENDING,
        "*",
        put("workflow_events", "run_id = :pending", "event_data = :empty"),
        empty=encode({}),
    ),
    damage(
        "log-unreadable",
        PENDING,
        "1",
        put("workflow_events", "run_id = :pending", "event_data = :one"),
        one=encode(1),
    ),
    damage(
        "log-id",
        BUSY,
        "evnt_x",
        put("workflow_events", "run_id = :busy AND position = 5", "event_id = 'evnt_x'"),
    ),
    damage(
        "log-id",
        ENDED,
        LAST,
        put("workflow_events", "run_id = :ended AND position = 5", "event_id = :last"),
        last=LAST,
    ),
    damage(
        "log-time",
        BUSY,
        "*",
        put("workflow_events", "run_id = :busy AND position = 7", "created_at = 5"),
    ),
    damage("log-repeated", ENDED, "*", event("ended", "run_completed", None, 6)),
    damage("log-repeated", BUSY, LAST, event("busy", "run_started", None, 5)),
    damage("log-after-end", ENDED, "*", event("ended", "step_started", "step_2", 6)),
    damage("log-order", BUSY, LAST, event("busy", "step_completed", "step_9", 5)),
    damage(
        "step-unreadable",
        BUSY,
        "step_1",
        put("workflow_steps", "run_id = :busy AND step_id = 'step_1'", "output = x'ff'"),
    ),
    damage(
        "step-unreadable",
        BUSY,
        "step_1",
        put(
            "workflow_steps",
            "run_id = :busy AND step_id = 'step_1'",
            "step_name = CAST(x'ff' AS TEXT)",
        ),
    ),
    damage(
        "step-differs",
        BUSY,
        "step_2",
        put("workflow_steps", "run_id = :busy AND step_id = 'step_2'", "attempt = 9"),
        repaired=True,
    ),
    damage(
        "step-differs",
        ENDED,
        "step_1",
        put(
            "workflow_steps",
            "run_id = :ended AND step_id = 'step_1'",
            "status = 'failed', output = NULL",
        ),
        repaired=True,
    ),
    damage(
        "step-differs",
        BUSY,
        "step_2",
        put("workflow_steps", "run_id = :busy AND step_id = 'step_2'", "step_name = 'other'"),
    ),
    damage(
        "step-missing",
        BUSY,
        "step_1",
        drop("workflow_steps", "run_id = :busy AND step_id = 'step_1'"),
        repaired=True,
    ),
    damage(
        "step-missing",
        ENDED,
        "step_2",
        drop("workflow_steps", "run_id = :ended AND step_id = 'step_2'"),
        repaired=True,
    ),
    damage(
        "step-unexpected",
        ENDED,
        "step_9",
        "INSERT INTO workflow_steps (run_id, step_id, step_name, status, attempt, completed_at, "
        "created_at, updated_at) VALUES (:ended, 'step_9', 'n', 'failed', 1, 1, 1, 1)",
    ),
    damage(
        "hook-unreadable",
        BUSY,
        "hook_1",
        put("workflow_hooks", "run_id = :busy", "metadata = x'ff'"),
    ),
    damage(
        "hook-differs", BUSY, "hook_1", put("workflow_hooks", "run_id = :busy", "is_webhook = 1")
    ),
    damage("hook-missing", BUSY, "hook_1", drop("workflow_hooks", "run_id = :busy"), repaired=True),
    damage("hook-unexpected", BUSY, "hook_9", HOOK.format("busy"), repaired=True),
    damage("hook-of-ended-run", ENDED, "hook_9", HOOK.format("ended"), repaired=True),
    damage("hook-of-no-run", GONE, "hook_9", HOOK.format("gone")),
    damage("wait-due", BUSY, "wait_2", put("workflow_events", "run_id = :busy", "due_at = NULL")),
    damage(
        "wait-due",
        BUSY,
        "wait_1",
        put(
            "workflow_events",
            "run_id = :busy AND correlation_id = 'wait_1' AND event_type = 'wait_created'",
            "due_at = 5e12",
        ),
        repaired=True,
    ),
    damage(
        "wait-due",
        ENDED,
        "wait_2",
        put(
            "workflow_events",
            "run_id = :ended AND correlation_id = 'wait_2' AND event_type = 'wait_created'",
            "due_at = 5e12",
        ),
        repaired=True,
    ),
    damage(
        "message-unreadable", None, "*", put("queue_messages", "run_id = :pending", "headers = '{'")
    ),
    damage(
        "message-unreadable",
        None,
        "*",
        put("queue_messages", "run_id = :pending", "created_at = 'noon'"),
    ),
    damage(
        "message-body", PENDING, "*", put("queue_messages", "run_id = :pending", "payload = x'ff'")
    ),
    damage(
        "message-malformed",
        PENDING,
        "*",
        put("queue_messages", "run_id = :pending", "queue_name = 'queue'"),
    ),
    damage(
        "message-malformed", BUSY, "*", put("queue_messages", "run_id IS NULL", "run_id = :busy")
    ),
    damage(
        "message-malformed",
        PENDING,
        "mine",
        put("queue_messages", "run_id = :pending", "message_id = 'mine'"),
    ),
    damage(
        "message-state",
        PENDING,
        "*",
        put("queue_messages", "run_id = :pending", "processed_at = 5"),
    ),
    damage(
        "message-state",
        PENDING,
        "*",
        put("queue_messages", "run_id = :pending", "lease_token = 'x'"),
    ),
    damage(
        "message-state", PENDING, "*", put("queue_messages", "run_id = :pending", "attempt = 0")
    ),
    damage(
        "lease-expired",
        PENDING,
        "*",
        put(
            "queue_messages",
            "run_id = :pending",
            "status = 'processing', lease_token = 'x', leased_until = :past",
        ),
        repaired=True,
    ),
    damage(
        "stream-unreadable",
        BUSY,
        "out",
        put("stream_chunks", "run_id = :busy AND chunk_index = 1", "data = 'text'"),
    ),
    damage(
        "stream-unreadable",
        BUSY,
        BUSY,
        put("stream_chunks", "run_id = :busy AND chunk_index = 0", "stream_name = x'ff'"),
    ),
    damage("stream-gap", BUSY, "out", drop("stream_chunks", "run_id = :busy AND chunk_index = 1")),
    damage(
        "stream-gap", ENDED, "out", drop("stream_chunks", "run_id = :ended AND chunk_index = 2")
    ),
]

RUNS = {
    "busy": BUSY,
    "ended": ENDED,
    "legacy": LEGACY,
    "pending": PENDING,
    "stepping": STEPPING,
    "gone": GONE,
}


def hurt(store: Store, one: Damage) -> None:
    past = ms(store.start + timedelta(minutes=30))
    store.damage(*one.sql, **RUNS, past=past, **one.values)
