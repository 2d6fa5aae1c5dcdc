"""The hot statements use the index that was made for them, and nothing scans a whole table."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from workflow_world.core.paging import Query
from workflow_world.sql import lists
from workflow_world.sql.compiled import Statement
from workflow_world.sql.queue.statements import QueueStatements
from workflow_world.sql.run_statements import RunStatements
from workflow_world.sql.stranded import StrandedReader
from workflow_world.sql.streams import ChunkStatements
from workflow_world.sql.tables import tables

from .helpers import raw

Explain = Callable[[Statement], list[str]]

RUNS, QUEUE = RunStatements(tables()), QueueStatements(tables())
CHUNKS, STRANDED = ChunkStatements(tables()), StrandedReader(tables())


@pytest.fixture(scope="module", params=["new", "analyzed"])
def explain(
    request: pytest.FixtureRequest, template: bytes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Explain]:
    """The plan of a statement, on a new database and on one whose planner has statistics."""
    path = tmp_path_factory.mktemp("plans") / "w.db"
    path.write_bytes(template)
    dialect = SQLiteDialect_pysqlite(paramstyle="qmark")
    with raw(path) as connection:
        if request.param == "analyzed":
            fill(connection)

        def plan(statement: Statement) -> list[str]:
            sql, order, _ = statement.prepared(dialect)
            values = [None] * len(order or ())
            return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]

        yield plan


def fill(connection: sqlite3.Connection) -> None:
    """Enough rows for the planner to have opinions: long logs, many messages, most finished."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1999)"
    script = f"""
        INSERT INTO workflow_runs (run_id, status, deployment_id, workflow_name, attributes,
            created_at, updated_at, completed_at)
        {numbers} SELECT 'wrun_' || i, iif(i % 10, 'completed', 'running'), 'd', 'w' || (i % 5),
            '{{}}', i, i, iif(i % 10, i, NULL) FROM n;
        INSERT INTO workflow_steps (run_id, step_id, step_name, status, attempt, created_at,
            updated_at, completed_at)
        {numbers} SELECT 'wrun_' || (i % 20 * 10), 's' || i, 's',
            iif(i % 10, 'completed', 'running'), 1, i, i, iif(i % 10, i, NULL) FROM n;
        INSERT INTO workflow_events (run_id, position, event_id, event_type, correlation_id,
            spec_version, created_at)
        {numbers} SELECT 'wrun_' || (i % 4 * 10), i + 1, 'e' || i,
            iif(i % 2, 'step_created', 'step_completed'), 's' || (i / 2), 5, i FROM n;
        INSERT INTO workflow_hooks (run_id, hook_id, token, owner_id, project_id, environment,
            created_at)
        {numbers} SELECT 'wrun_' || i, 'h' || i, 't' || i, '', '', '', i FROM n;
        INSERT INTO queue_messages (message_id, queue_name, payload, status, attempt, max_attempts,
            deliveries, idempotency_key, available_at, lease_token, leased_until, run_id, step_id,
            is_wake_up, created_at, updated_at, processed_at)
        {numbers} SELECT 'm' || i, 'q', x'', CASE i % 20 WHEN 0 THEN 'pending' WHEN 1 THEN
            'processing' WHEN 2 THEN 'failed' ELSE 'completed' END, 1, 3, 1,
            iif(i % 3, NULL, 'k' || i), i, iif(i % 20 = 1, 'l', NULL), iif(i % 20 = 1, i, NULL),
            'wrun_' || i, iif(i % 2, 's' || i, NULL), 0, i, i, iif(i % 20 > 1, i, NULL) FROM n;
        INSERT INTO stream_chunks (run_id, stream_name, chunk_index, chunk_id, data, is_eof,
            created_at)
        {numbers} SELECT 'wrun_' || (i % 4), 's', i / 4, 'c' || i, x'00', 0, i FROM n;
        ANALYZE;
    """  # noqa: S608  # no value of anybody
    connection.executescript(script)


def name_of(statement: Statement) -> str:
    """What it is called at its fault points."""
    return statement.before.removeprefix("before ")


INTENDED: list[tuple[Statement, str]] = [
    (RUNS.run, "sqlite_autoindex_workflow_runs_1 (run_id=?)"),
    (RUNS.run, "sqlite_autoindex_workflow_events_1 (run_id=? AND position=?)"),
    (RUNS.step, "sqlite_autoindex_workflow_steps_1 (run_id=? AND step_id=?)"),
    (RUNS.token_holder, "uq_hooks_token (token=?)"),
    (RUNS.resumed, "uq_events_resume (run_id=? AND resume_id=?)"),
    (RUNS.last_claim, "ix_queue_finished_of_run (run_id=? AND step_id=?)"),
    (RUNS.last_claim, "ix_queue_unfinished_of_run (run_id=? AND step_id=?)"),
    (RUNS.log, "sqlite_autoindex_workflow_events_1 (run_id=? AND position>?)"),
    (
        RUNS.related(("wait_created", "wait_completed")),
        "uq_events_once (run_id=? AND correlation_id=?",
    ),
    (
        RUNS.related(("hook_created", "hook_conflict")),
        "uq_events_once (run_id=? AND correlation_id=?",
    ),
    (RUNS.related(("attr_set",)), "uq_events_once (run_id=? AND correlation_id=?"),
    (RUNS.close_waits, "ix_events_open_waits (run_id=?"),
    (QUEUE.ready("pending", serialize=True, prefixes=None), "ix_queue_claim (available_at<?)"),
    (
        QUEUE.ready("pending", serialize=False, prefixes=("a", "b")),
        "ix_queue_claim (available_at<?)",
    ),
    (QUEUE.ready("pending", serialize=True, prefixes=("a",)), "ix_queue_claim (available_at<?)"),
    (QUEUE.ready("processing", serialize=True, prefixes=None), "ix_queue_leases (leased_until<?)"),
    (QUEUE.next_due(None), "ix_queue_claim (available_at>?)"),
    (QUEUE.next_due(None), "ix_queue_leases (leased_until>?)"),
    (QUEUE.free_expired, "ix_queue_leases (leased_until<?)"),
    (QUEUE.free_all, "ix_queue_leases"),
    (QUEUE.key_holder, "uq_queue_key (idempotency_key=?)"),
    (QUEUE.last_completed, "ix_queue_finished_key (idempotency_key=? AND processed_at>?)"),
    (QUEUE.pending_wake_up, "uq_queue_wake_up (run_id=?)"),
    (QUEUE.unfinished_of_run, "ix_queue_unfinished_of_run (run_id=?)"),
    (QUEUE.next_replay, "ix_queue_unfinished_of_run (run_id=? AND step_id=?)"),
    (QUEUE.unserved(("a", "b")), "ix_queue_claim (available_at<?)"),
    (QUEUE.prunable, "ix_queue_finished (status=?"),
    (QUEUE.settle, "sqlite_autoindex_queue_messages_1 (message_id=?)"),
    (CHUNKS.tail, "sqlite_autoindex_stream_chunks_1 (run_id=? AND stream_name=?)"),
    (
        CHUNKS.page,
        "sqlite_autoindex_stream_chunks_1 (run_id=? AND stream_name=? AND chunk_index>?)",
    ),
    (CHUNKS.names, "ix_streams_of_run (run_id=?)"),
    (STRANDED.candidates, "ix_runs_active (run_id>?)"),
    (STRANDED.candidates, "ix_queue_unfinished_of_run (run_id=?)"),
]


@pytest.mark.parametrize(
    ("statement", "index"), INTENDED, ids=[f"{name_of(one[0])}: {one[1]}" for one in INTENDED]
)
def test_hot_statements_use_their_index(explain: Explain, statement: Statement, index: str) -> None:
    plan = explain(statement)
    assert any(f" INDEX {index}" in line for line in plan), plan


def test_live_leases_are_listed_once_for_a_claim(explain: Explain) -> None:
    """Not looked for among all messages of its run, for each that might be claimed."""
    for status in ("pending", "processing"):
        plan = explain(QUEUE.ready(status, serialize=True, prefixes=None))
        assert not any("CORRELATED" in line for line in plan)
        (search,) = (line for line in plan if line.startswith(("SEARCH other", "SCAN other")))
        assert "ix_queue_leases (leased_until>?)" in search, plan


def test_messages_of_a_step_are_found_by_their_run(explain: Explain) -> None:
    """Not by going through every failed message, for each step that might be stranded."""
    for statement in (QUEUE.open_of_step, STRANDED.candidates, STRANDED.steps_of(["a", "b"])):
        plan = explain(statement)
        searches = [line for line in plan if "SEARCH queue_messages" in line]
        assert searches
        assert all("(run_id=?" in line for line in searches), plan


def prepared_statements() -> dict[str, Statement]:
    found: dict[str, Statement] = {}
    for group in (RUNS, QUEUE, CHUNKS, STRANDED):
        for name, value in vars(type(group)).items():
            if isinstance(value, cached_property):
                statement: Any = getattr(group, name)
                found[name_of(statement)] = statement
    return found


OVERVIEWS = {"count messages"}
"""Statements whose purpose is to see everything."""


@pytest.mark.parametrize("name", sorted(prepared_statements().keys() - OVERVIEWS))
def test_no_statement_scans_a_table(explain: Explain, name: str) -> None:
    no_scan(explain(prepared_statements()[name]))


def a_query(kind: Any, **fields: Any) -> Query:
    return Query(**{"kind": kind, "limit": 10, **fields})


LISTS: dict[str, Statement] = {
    "runs": lists.list_runs(tables(), a_query("runs")),
    "runs, newest first, next page": lists.list_runs(
        tables(), a_query("runs", descending=True, after=(1, "x"))
    ),
    "runs by status": lists.list_runs(tables(), a_query("runs", statuses=("pending", "running"))),
    "runs by name": lists.list_runs(tables(), a_query("runs", workflow_name="w")),
    "steps": lists.list_steps(tables(), a_query("steps", run_id="r", after=(1, "x"))),
    "log, backwards": lists.list_events(tables(), a_query("events", run_id="r", descending=True)),
    "events by correlation": lists.list_events(tables(), a_query("events", correlation_id="c")),
    "hooks": lists.list_hooks(tables(), a_query("hooks")),
    "hooks of a run": lists.list_hooks(tables(), a_query("hooks", run_id="r")),
    "waits": lists.list_waits(tables(), a_query("waits")),
    "waits of a run": lists.list_waits(tables(), a_query("waits", run_id="r")),
    "a wait": lists.list_waits(tables(), a_query("waits", run_id="r", correlation_id="w")),
}


@pytest.mark.parametrize("statement", LISTS.values(), ids=LISTS.keys())
def test_no_list_scans_a_table(explain: Explain, statement: Statement) -> None:
    no_scan(explain(statement))


def no_scan(plan: list[str]) -> None:
    """A scan along an index is a walk in order that stops at the limit; along none it is not."""
    scans = [line for line in plan if re.match(r"SCAN (?!CONSTANT)(?!.*USING)", line)]
    assert scans == [], plan


def test_waits_find_their_completion_by_its_key(explain: Explain) -> None:
    """Not by reading the whole log once for each wait."""
    plan = explain(LISTS["waits of a run"])
    (search,) = (line for line in plan if "completed_wait" in line)
    assert "(run_id=? AND correlation_id=?" in search, plan
