"""Illegal rows cannot be stored, not even behind the code's back (B204, spec 2.9, design 5)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workflow_world.core.events import SINGLE_EVENTS, STEP_OUTCOMES

from .helpers import raw

Row = dict[str, Any]

RUN: Row = {
    "run_id": "wrun_1",
    "status": "running",
    "deployment_id": "d",
    "workflow_name": "w",
    "attributes": "{}",
    "created_at": 1,
    "updated_at": 1,
}
STEP: Row = {
    "run_id": "wrun_1",
    "step_id": "step_1",
    "step_name": "s",
    "status": "running",
    "attempt": 1,
    "created_at": 1,
    "updated_at": 1,
}
EVENT: Row = {
    "run_id": "wrun_1",
    "position": 1,
    "event_id": "evnt_1",
    "event_type": "step_started",
    "correlation_id": "c",
    "spec_version": 5,
    "created_at": 1,
}
HOOK: Row = {
    "run_id": "wrun_1",
    "hook_id": "hook_1",
    "token": "t",
    "owner_id": "o",
    "project_id": "p",
    "environment": "e",
    "created_at": 1,
}
MESSAGE: Row = {
    "message_id": "msg_1",
    "queue_name": "q",
    "payload": b"",
    "status": "pending",
    "attempt": 1,
    "max_attempts": 3,
    "deliveries": 0,
    "available_at": 1,
    "is_wake_up": False,
    "created_at": 1,
    "updated_at": 1,
}
CHUNK: Row = {
    "run_id": "wrun_1",
    "stream_name": "s",
    "chunk_index": 0,
    "chunk_id": "chnk_1",
    "data": b"x",
    "is_eof": False,
    "created_at": 1,
}
BASE: dict[str, Row] = {
    "workflow_runs": RUN,
    "workflow_steps": STEP,
    "workflow_events": EVENT,
    "workflow_hooks": HOOK,
    "queue_messages": MESSAGE,
    "stream_chunks": CHUNK,
}
LEASED: Row = {"status": "processing", "lease_token": "x", "leased_until": 9}
DONE: Row = {"status": "completed", "processed_at": 5}


@pytest.fixture
def database(path: Path, template: bytes) -> Iterator[sqlite3.Connection]:
    path.write_bytes(template)
    with raw(path) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        for run_id in ("wrun_1", "wrun_2"):
            put(connection, "workflow_runs", run_id=run_id)
        yield connection


def put(connection: sqlite3.Connection, table: str, **changes: object) -> None:
    row = BASE[table] | changes
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  # our own names
    connection.execute(sql, list(row.values()))


def refuses(connection: sqlite3.Connection, table: str, **changes: object) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        put(connection, table, **changes)


# --- what may be there once ------------------------------------------------------------------


@pytest.mark.parametrize("kind", SINGLE_EVENTS)
def test_single_events(database: sqlite3.Connection, kind: str) -> None:
    put(database, "workflow_events", position=1, event_type=kind)
    refuses(database, "workflow_events", position=2, event_type=kind)
    # Another correlation id and another run are something else.
    put(database, "workflow_events", position=2, event_type=kind, correlation_id="other")
    put(database, "workflow_events", position=1, event_type=kind, run_id="wrun_2")


@pytest.mark.parametrize("second", STEP_OUTCOMES)
@pytest.mark.parametrize("first", STEP_OUTCOMES)
def test_one_outcome_of_a_step(database: sqlite3.Connection, first: str, second: str) -> None:
    put(database, "workflow_events", position=1, event_type=first)
    refuses(database, "workflow_events", position=2, event_type=second)
    put(database, "workflow_events", position=2, event_type=second, correlation_id="other")


def test_an_update_cannot_make_a_duplicate_either(database: sqlite3.Connection) -> None:
    put(database, "workflow_events", position=1, event_type="wait_completed")
    put(database, "workflow_events", position=2, event_type="wait_created")
    with pytest.raises(sqlite3.IntegrityError):
        database.execute("UPDATE workflow_events SET event_type = 'wait_completed'")


@pytest.mark.parametrize(
    "kind", ["step_started", "step_retrying", "hook_received", "run_started", "noop"]
)
def test_events_that_may_repeat(database: sqlite3.Connection, kind: str) -> None:
    for position in (1, 2, 3):
        put(database, "workflow_events", position=position, event_type=kind)


def test_attributes_written_by_a_step_have_no_correlation_id_and_may_repeat(
    database: sqlite3.Connection,
) -> None:
    for position in (1, 2):
        put(
            database,
            "workflow_events",
            position=position,
            event_type="attr_set",
            correlation_id=None,
        )


def test_a_position_is_taken_once(database: sqlite3.Connection) -> None:
    put(database, "workflow_events")
    refuses(database, "workflow_events", event_id="evnt_2")


def test_a_resume_id_counts_once_in_a_run(database: sqlite3.Connection) -> None:
    resumed = {"event_type": "hook_received", "resume_id": "r"}
    put(database, "workflow_events", position=1, **resumed)
    refuses(database, "workflow_events", position=2, **resumed, correlation_id="other hook")
    put(database, "workflow_events", position=1, **resumed, run_id="wrun_2")


def test_a_live_hooks_token_is_nobody_elses(database: sqlite3.Connection) -> None:
    put(database, "workflow_hooks")
    refuses(database, "workflow_hooks", hook_id="hook_2")
    refuses(database, "workflow_hooks", run_id="wrun_2")
    database.execute("DELETE FROM workflow_hooks")
    put(database, "workflow_hooks", run_id="wrun_2")


@pytest.mark.parametrize("table", ["workflow_runs", "workflow_steps", "workflow_hooks"])
def test_entities_are_there_once(database: sqlite3.Connection, table: str) -> None:
    if table != "workflow_runs":
        put(database, table)
    refuses(database, table, **({"token": "other"} if table == "workflow_hooks" else {}))


def test_a_pending_wake_up_of_a_run_is_the_only_one(database: sqlite3.Connection) -> None:
    wake_up: Row = {"run_id": "wrun_1", "is_wake_up": True}
    put(database, "queue_messages", **wake_up)
    refuses(database, "queue_messages", **wake_up, message_id="msg_2")
    put(database, "queue_messages", **wake_up, **LEASED, message_id="msg_2")
    put(database, "queue_messages", **wake_up | {"run_id": "wrun_2"}, message_id="msg_3")
    put(database, "queue_messages", run_id="wrun_1", message_id="msg_4")


@pytest.mark.parametrize("state", [{}, LEASED], ids=["pending", "processing"])
def test_an_idempotency_key_is_one_unfinished_messages(
    database: sqlite3.Connection, state: Row
) -> None:
    put(database, "queue_messages", idempotency_key="k", **state)
    refuses(database, "queue_messages", idempotency_key="k", message_id="msg_2")
    refuses(database, "queue_messages", idempotency_key="k", message_id="msg_2", **LEASED)
    for number, status in enumerate(("completed", "completed", "failed")):
        finished = {"status": status, "processed_at": 5, "message_id": f"msg_old_{number}"}
        put(database, "queue_messages", idempotency_key="k", **finished)
    put(database, "queue_messages", idempotency_key=None, message_id="msg_3")
    put(database, "queue_messages", idempotency_key=None, message_id="msg_4")


def test_a_chunk_index_is_taken_once(database: sqlite3.Connection) -> None:
    put(database, "stream_chunks")
    refuses(database, "stream_chunks", chunk_id="chnk_2")
    refuses(database, "stream_chunks", is_eof=True, data=b"")
    put(database, "stream_chunks", stream_name="other")
    put(database, "stream_chunks", run_id="wrun_2")


# --- what a row must be like -----------------------------------------------------------------

ILLEGAL: list[tuple[str, Row]] = [
    ("workflow_runs", {"status": "paused"}),
    ("workflow_runs", {"status": "completed"}),
    ("workflow_runs", {"status": "failed"}),
    ("workflow_runs", {"status": "cancelled"}),
    ("workflow_runs", {"status": "running", "completed_at": 5}),
    ("workflow_runs", {"status": "running", "output": b"x"}),
    ("workflow_runs", {"status": "failed", "completed_at": 5, "output": b"x"}),
    ("workflow_runs", {"status": "running", "error": b"x"}),
    ("workflow_runs", {"status": "completed", "completed_at": 5, "error": b"x"}),
    ("workflow_runs", {"run_id": None}),
    ("workflow_runs", {"attributes": None}),
    ("workflow_steps", {"status": "sleeping"}),
    ("workflow_steps", {"status": "completed"}),
    ("workflow_steps", {"status": "pending", "completed_at": 5}),
    ("workflow_steps", {"status": "running", "output": b"x"}),
    ("workflow_steps", {"attempt": -1}),
    ("workflow_steps", {"run_id": "wrun_nobody"}),
    ("workflow_events", {"position": 0}),
    ("workflow_events", {"position": -1}),
    ("workflow_events", {"due_at": 5}),
    ("workflow_events", {"due_at": 5, "event_type": "wait_completed"}),
    ("workflow_events", {"run_id": "wrun_nobody"}),
    ("workflow_events", {"event_id": None}),
    ("workflow_hooks", {"run_id": "wrun_nobody"}),
    ("workflow_hooks", {"token": None}),
    ("queue_messages", {"status": "dead"}),
    ("queue_messages", {"status": "processing"}),
    ("queue_messages", {"status": "processing", "lease_token": "x"}),
    ("queue_messages", {"status": "processing", "leased_until": 9}),
    ("queue_messages", {"lease_token": "x", "leased_until": 9}),
    ("queue_messages", {**DONE, "lease_token": "x", "leased_until": 9}),
    ("queue_messages", {"leased_until": 9}),
    ("queue_messages", {"attempt": 0}),
    ("queue_messages", {"deliveries": -1}),
    ("queue_messages", {"payload": None}),
    ("stream_chunks", {"chunk_index": -1}),
    ("stream_chunks", {"is_eof": True}),
    ("stream_chunks", {"data": None}),
]


@pytest.mark.parametrize(("table", "changes"), ILLEGAL)
def test_illegal_rows(database: sqlite3.Connection, table: str, changes: Row) -> None:
    fresh: Row = {"run_id": "wrun_new"} if table == "workflow_runs" else {}
    refuses(database, table, **fresh | changes)


LEGAL: list[tuple[str, Row]] = [
    ("workflow_runs", {"status": "pending"}),
    ("workflow_runs", {"status": "completed", "completed_at": 5, "output": b"x"}),
    ("workflow_runs", {"status": "completed", "completed_at": 5}),
    ("workflow_runs", {"status": "failed", "completed_at": 5, "error": b"x"}),
    ("workflow_runs", {"status": "cancelled", "completed_at": 5}),
    ("workflow_steps", {"status": "pending", "attempt": 0, "error": b"x"}),
    ("workflow_steps", {"status": "failed", "completed_at": 5, "error": b"x"}),
    ("workflow_steps", {"status": "completed", "completed_at": 5, "output": b"x"}),
    ("workflow_events", {"event_type": "wait_created", "due_at": 5}),
    ("queue_messages", LEASED),
    ("queue_messages", DONE),
    ("queue_messages", {"status": "failed", "processed_at": 5, "attempt": 3}),
    ("stream_chunks", {"is_eof": True, "data": b""}),
    ("stream_chunks", {"data": b""}),
]


@pytest.mark.parametrize(("table", "changes"), LEGAL)
def test_legal_rows(database: sqlite3.Connection, table: str, changes: Row) -> None:
    fresh: Row = {"run_id": "wrun_new"} if table == "workflow_runs" else {}
    put(database, table, **fresh | changes)


def test_what_belongs_to_a_run_goes_with_it(database: sqlite3.Connection) -> None:
    for table in ("workflow_steps", "workflow_events", "workflow_hooks"):
        put(database, table)
    database.execute("DELETE FROM workflow_runs WHERE run_id = 'wrun_1'")
    for table in ("workflow_steps", "workflow_events", "workflow_hooks"):
        assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # noqa: S608
