"""Every numbered behaviour: its text, what proves it outside the suite, and why one is not proved.

A test of the suite proves the numbers in its name (``test_b015_…``). ``table`` writes this list,
with the tests and the backends, as ``docs/conformance.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_TEXTS: Final = """\
# Entities and values
B001 ids carry their prefixes and 26-character ULIDs; 10 000 minted in a tight loop strictly
    increase.
B002 client-supplied run id is used unchanged, also when not a ULID.
B003 run_id None on run_created mints a `wrun_` id.
B004 timestamps are aware UTC with whole milliseconds; the returned value equals the re-read value.
B005 bytes payloads round-trip exactly, including NUL bytes, all 256 values, empty bytes and 5 MiB.
B006 any-value payloads round-trip: int, float, large int, bool, None, "", [], nested maps, dates.
B007 payload null differs from absent after a re-read; undefined inside a payload survives.
B008 run attributes default to `{}`, never None.
B009 executionContext with nested maps and nulls round-trips.
B010 encryption_public_key survives created → started → completed.
B011 is_webhook False, True and absent are kept distinct; is_system kept.
B012 non-ASCII and 500-character workflow names, step names and tokens work.
B013 spec version of run, step, hook, event is the one sent.
B014 returned objects are copies: changing them does not change the store or caches.

# Run events
B015 run_created: pending run, one event with its data at position 1, both returned.
B016 run_created twice → 409; one run, one event.
B017 concurrent run_created with one id: exactly one succeeds.
B018 run_started on pending: running, started_at set, event stored without eventData.
B019 run_started on running: run returned, event None, no row, updated_at unchanged.
B020 concurrent run_started: one event row in total, all get a running run with the same
    started_at.
B021 run_started on a missing run without data → 404, nothing written.
B022 resilient start creates run and two events in order, with spec version, context, attributes,
    key.
B023 resilient data with empty or missing deploymentId, workflowName, or missing input → 404,
    nothing created.
B024 resilient data with empty-bytes input works.
B025 resilient start racing run_created (two Worlds): one run, exactly one run_created event; loser
    of run_created gets 409.
B026 resilient data on an existing run changes nothing in it.
B027 resilient data on a terminal run → 409.
B028 run_completed: status, output, completed_at; works from pending too.
B029 run_failed: error bytes verbatim, error_code; a map error verbatim.
B030 run_cancelled: from pending and running; cancelReason in the event.
B031 run_cancelled on cancelled: success, extra event, run unchanged.
B032 run_cancelled on completed or failed → 409.
B033 run_started / run_completed / run_failed on each terminal status → 409, message contains
    "terminal".
B034 concurrent run_completed, run_failed, run_cancelled: exactly one wins; one terminal event
    (plus idempotent cancels only if cancel won).
B035 every event type on a missing run → 404 and the log stays empty.
B036 run past expired_at: writes → 410 (step events → 409), reads work.
B037 event with run_id None (not run_created) → 400 with "runId is required".
B038 unknown type, hook_conflict, noop as request → 400.
B039 cancelReason over 512 UTF-16 units → 400.

# Step events
B040 step_created: pending, attempt 0, input kept.
B041 step_created twice (also concurrently, two Worlds) → one step, one event, others 409.
B042 the same step id in two runs is two steps.
B043 step_started: running, attempt 1, started_at; full step returned.
B044 second step_started: attempt 2, started_at unchanged, second event.
B045 20 concurrent step_started: attempt ends at 20, no lost update.
B046 step events without correlationId → 400 mentioning correlationId.
B047 step_started on a missing step of a live run → 404.
B048 step_completed: output, completed_at; also from pending; result None works.
B049 step_failed: error verbatim; completed_at.
B050 step_retrying: pending, error, retry_after; without retryAfter clears an old one.
B051 step_started before retryAfter → 425 with rounded-up seconds ≥ 1; nothing changed.
B052 step_started after retryAfter: works, clears it, keeps error.
B053 any step event on a terminal step → 409; step_started on a terminal step with a future
    retryAfter → 409.
B054 concurrent step_completed and step_failed: exactly one terminal event.
B055 step_created, wait_created on a terminal run → 409 with "terminal run".
B056 running step on a terminal run: completed/failed/retrying/started accepted.
B057 pending, terminal or missing step on a terminal run: step_started etc. → 409.
B058 step_started for a step of another run → 404.

# Hooks
B059 hook_created: row, event, token lookup finds it.
B060 same token, other run → hook_conflict event with conflictingRunId, no exception, no hook row,
    holder untouched.
B061 same token, other hook of the same run → hook_conflict.
B062 concurrent creators of one token (two Worlds): one hook_created, the rest hook_conflict.
B063 repeated create of the same hook → 409, no self-conflict event.
B064 repeated create after a conflict → the same conflict event, no new row.
B065 create again after disposal → 409.
B066 token reusable after disposal, after completion, failure and cancellation of the owner.
B067 end of run removes all its hooks and waits, not those of others.
B068 hook_received: event; hook stays; many receives keep their order.
B069 hook_received / hook_disposed on unknown or disposed hook → HookNotFoundError(hook_id).
B070 hook_received naming another run's hook → HookNotFoundError.
B071 concurrent dispose: one event; losers 404 or 409.
B072 concurrent dispose and receive: the log never has hook_received after hook_disposed.
B073 hook_created on a terminal run → 410; attr_set on a terminal run → 410.
B074 lookup of unknown token → HookNotFoundError(token).
B075 resume id: first write appends with resumeId, second returns the same event id, one row.
B076 resume id: 10 concurrent writers, one row, all the same event id.
B077 resume id with another hook, or another digest → HookResumeConflictError.
B078 resume id converges after disposal and after the run ended.
B079 digest absent on one side converges.
B080 resumeId is returned by events_list and absent on plain receives.
B081 distinct resume ids append distinct events.
B082 failed resume (hook gone) leaves no claim.

# Waits, attributes, legacy
B083 wait_created with resumeAt to the millisecond; twice → 409.
B084 wait_completed once; twice and concurrently → one event, others 409.
B085 wait_completed without a wait → 404; on a terminal run → 409.
B086 attr_set merges, removes on null, null kept in the event.
B087 attr_set repeated correlation id (workflow writer) → 409, attributes unchanged; step writer
    may repeat.
B088 attribute rules: empty key, long key (UTF-16), long value (UTF-8), duplicate key, reserved
    prefix, 65th key → 400, nothing written, correlation id still usable.
B089 concurrent attr_set on different keys: none lost.
B090 legacy run: wait_completed and hook_received recorded; run_cancelled without event; others 409
    "not supported for legacy runs".
B091 run with spec version 8 → RunNotSupportedError; reads fine.
B092 a stored `wevt_` id, a slot id and a `noop` row are read back correctly.

# Log order, atomicity
B093 positions are dense and list order = commit order under 8 concurrent writers in two Worlds.
B094 event ids strictly increase in list order even when one World's clock is 1 hour behind.
B095 created_at never decreases in list order.
B096 a reader polling with its cursor during concurrent writes sees every event once, none late.
B097 failure injected between entity write and event write leaves neither (or is rolled forward
    before the next read).
B098 kill -9 of a writer in a loop: afterwards every entity equals the replay of its log.
B099 cancelled task during events_create leaves all or nothing and no held lock.

# Reads
B100 runs_get, steps_get, hooks_get, events_get missing → typed 404.
B101 steps_get with run None finds the step.
B102 runs_list: newest first by default, asc on request, filters by name, status, several statuses.
B103 walking pages with limit 1, 2, 7 yields every row once, for runs, steps, events, hooks,
    correlation lists.
B104 50 rows created in the same millisecond page without loss.
B105 has_more is False exactly at the end; limit above 1000 clamps; limit 0 or negative uses the
    default.
B106 events_list final cursor is usable to fetch later events; empty page echoes the cursor.
B107 rows inserted during a walk do not disturb it.
B108 malformed cursor → 400 (events, runs, steps, hooks).
B109 unknown run: events_list, steps_list, hooks_list, streams_list empty.
B110 list by correlation id with and without run; both orders.
B111 resolve_data none strips exactly the payload fields; default is all.
B112 runs_list issues a constant number of statements, whatever the page size (SQL).
B113 runs_get_many keeps order and gives None for missing.

# Queue
B114 queue returns a `msg_` id; message durable before start and after a restart.
B115 names: both kinds, namespaces accepted; `__wkf_other_x`, `__Foo_wkf_workflow_x`, prefix
    without tail rejected.
B116 payload with bytes, datetimes, None and non-ASCII arrives equal in-process and over HTTP (JSON
    and CBOR).
B117 same key, pending → same id, one row, first payload kept; other key → other id.
B118 same key while processing → same id.
B119 same key within the TTL after completion → same id; after the TTL → new message delivered.
B120 same key after failure → new message at once.
B121 50 concurrent enqueues with one key in two Worlds → one row, one id.
B122 no key → never deduplicated.
B123 delay_seconds: not delivered early (checked at 10 ms), delivered within 1 s after due;
    fractional and zero and negative.
B124 idempotency survives a restart of the process.
B125 nothing is delivered before start(); start twice is harmless.
B126 success → completed; handler called once.
B127 exception → retried with growing delay inside the ±20 % band; attempt 2, 3; then failed with
    last_error; no fourth call.
B128 backoff values: attempts 1…8 give 1, 2, 4, 8, 16, 32, 60, 60 s ± 20 %.
B129 continuation: redelivered after the delay, no attempt consumed (after two failures and a
    continuation three attempts are available again), same message id, same payload.
B130 1000 continuations in a row do not exhaust a message.
B131 continuation with a key held by another unfinished message completes this one; exactly one
    wake-up remains.
B132 continuation with the message's own key reschedules (never lost).
B133 crash between handler end and acknowledgement → redelivered.
B134 continuation is atomic: fault injection never yields zero wake-ups.
B135 concurrency limit respected (max in flight = limit) and reached.
B136 one World drains 1000 due messages with concurrency 20 far faster than one per poll.
B137 four workers, 1000 messages: each handled exactly once when nothing fails.
B138 a handler longer than the lease (30 s by default, extended every third of it) is not delivered
    twice.
B139 expired lease → recovered at start and by the periodic pass; live leases untouched.
B140 a worker that lost its lease cannot complete or fail the message.
B141 a message that kills its worker max_deliveries times ends failed, and its run with it.
B142 close waits for running handlers; after the timeout cancels and releases with attempt
    unchanged; other worker picks up at once.
B143 close is idempotent, works before start and with the database down.
B144 callback: URL, method, three headers, extra headers not overriding, body equals payload.
B145 base URL priority: option, WORKFLOW_SERVICE_URL, PORT, 3000; trailing slash.
B146 `__wkf_step_` goes to /step, workflow to /flow, also with namespace.
B147 503 and 200 with timeoutSeconds (incl. 0, incl. fraction) reschedule without consuming an
    attempt; 503 without it is a failure; non-numeric is a failure / success respectively.
B148 429 with Retry-After delays without consuming an attempt.
B149 500, 404, redirect, timeout and a lost response consume an attempt; a refused connection or an
    unknown host consumes none, it waits with backoff.
B150 handler: each missing header → 400 "Missing required headers"; mixed-case headers work.
B151 handler: foreign prefix → 400 "Unhandled queue"; bad body → 400; no body → 400.
B152 handler: exception → 500; continuation → 503 with timeoutSeconds, 0 kept; None → 200 {"ok":
    true}.
B153 health-check message is answered on the synthetic stream without a run row.
B154 in-process handler: longest prefix wins, no HTTP request is made; delivery="http" forces HTTP.
B155 database outage of 5 s: worker survives and resumes.
B156 retention removes old completed/failed rows, never unfinished ones, and not within the
    idempotency TTL.
B157 requeue of a failed message delivers it with attempt 1.
B158 two Worlds: message enqueued in one is picked up by the other within 500 ms.
B159 serialize_runs (on by default): no two workflow messages of one run at once; step messages
    unaffected.

# Recovery sweep
B160 pending run without message gets one; not before the grace time; not twice.
B161 step created without message is executed; one with an unfinished or failed message is left
    alone.
B162 elapsed wait without message wakes the run; future wait does not.
B163 hook_received or step_completed that no claimed workflow message has seen, without an
    unfinished message, wakes the run once; a run that already consumed it is not woken again.
B164 run waiting only for a hook is not woken; terminal runs never.
B165 recovery uses the run's stored namespace.
B166 two workers sweeping at once enqueue once.

# Streams
B167 write, close, read: same chunks, same boundaries, binary-safe.
B168 write_multi: order, all-or-nothing, empty list creates nothing.
B169 close twice is fine; close of an unknown stream makes an empty closed one.
B170 write after close → WorkflowWorldError status 409, not EntityConflictError.
B171 live reader gets chunks written later, in this World and in another one, then ends at close.
B172 reader of an open stream stays open; ends neither at run end nor on idle.
B173 start_index 0, n, count, beyond (open and closed), -1, -n, -huge.
B174 negative start on a stream with the close mark counts data only.
B175 empty chunks: counted in index and info, present in get_chunks, not yielded live.
B176 10 readers and 3 writers: every reader sees the same total order, nothing lost or twice.
B177 cancelling one reader leaves others running and no background work behind.
B178 get_chunks: paging, indices, has_more, done, cursor None at end, bad cursor restarts, limit
    clamp.
B179 get_info: -1/False, n-1/False, n-1/True.
B180 streams_list: each once, only this run's; same name in two runs is two streams.
B181 200 MiB through one stream with reader memory bounded.
B182 reader survives a short database outage without loss; a long one raises, not ends.
B183 World.close ends open readers with an error.

# Configuration, lifecycle, errors
B184 option > environment > default for every option.
B185 bad numeric environment value warns once and falls back.
B186 creating a World does no I/O; first operation initialises; 20 concurrent first operations
    initialise once.
B187 initialisation failure is retried by the next operation.
B188 schema created on first use; two processes starting at once both succeed; older schema
    upgraded with data kept; newer refused.
B189 setup command: creates, repeats harmlessly, exit codes, redacts secrets.
B190 two Worlds with one URL share a pool; closing one keeps the other working.
B191 SQLite: WAL, synchronous=FULL and busy timeout 5000 on every pooled connection; 8 processes
    writing at once see no "database is locked" (SQL).
B192 install() makes the SDK use our World; an SDK workflow with steps, sleep, hook, stream, retry
    runs end to end.
B193 end to end with 110 parallel steps: each body's effect recorded once, run completes.
B194 kill -9 of the worker at random moments during B192/B193 with restarts: all runs complete with
    the right result.
B195 every error class: status, SDK base class, message phrases; driver errors never leak.
B196 secrets never in logs, repr, errors.
B197 get_deployment_id non-empty; get_environment None by default.
B198 change streams off, on, and killed mid-way: queue and streams keep delivering.
B199 None fields are absent in documents, `_id` never returned, dates aware, binary is bytes.
B200 idempotency key expired by value but not yet removed by the TTL thread does not block.
B201 standalone server without transactions: B093–B098 hold.
B202 use after close → WorldClosedError.
B203 a payload of any type written through the core store is read back through it; through the SDK
    adapter an unrepresentable one raises WorldError `UNREPRESENTABLE`.
B204 database constraints: inserting any of the duplicates of 2.9 behind the code's back fails.
B205 create_queue_handler works without an event loop and without a reachable database.
"""

UNPROVED: Final[Mapping[str, str]] = MappingProxyType({})
"""Numbers without a test, and the reason."""

ELSEWHERE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "B112": ("tests/sql/test_statements.py::test_a_list_is_one_statement_whatever_its_size",),
        "B184": (
            "tests/core/test_settings.py::test_option_before_environment_before_default",
            "tests/core/test_settings.py::test_every_variable_is_listed_here",
            "tests/cli/test_database.py::test_url_from_the_environment",
            "tests/cli/test_database.py::test_option_wins_over_the_environment",
        ),
        "B185": (
            "tests/core/test_settings.py::test_an_unreadable_number_warns_once",
            "tests/core/test_settings.py::test_an_unreadable_switch_warns_once",
        ),
        "B188": (
            "tests/sql/test_opening.py::test_the_first_use_creates_the_schema",
            "tests/sql/test_opening.py::test_eight_processes_open_one_fresh_file_at_once",
            "tests/sql/test_bad_input.py::test_a_newer_schema",
            "tests/migrations/test_migrate.py::"
            "test_an_older_schema_is_refused_without_auto_migrate_and_upgraded_with",
            "tests/postgres/test_schema.py::test_eight_processes_start_on_an_empty_database",
            "tests/postgres/test_schema.py::test_an_older_schema",
            "tests/postgres/test_schema.py::test_a_newer_schema",
            "tests/libsql/test_opening.py::test_eight_processes_start_on_an_empty_database",
            "tests/libsql/test_opening.py::test_an_older_and_a_newer_schema",
            "tests/migrations/test_killed.py::"
            "test_whoever_comes_after_a_dead_migration_completes_it",
            "tests/mongodb/test_schema.py::test_eight_processes_open_an_empty_database_at_once",
            "tests/mongodb/test_schema.py::test_an_empty_one_without_auto_migrate",
            "tests/mongodb/test_schema.py::test_a_newer_version",
        ),
        "B189": (
            "tests/cli/test_database.py::test_creates_the_schema_and_can_be_repeated",
            "tests/cli/test_database.py::test_bad_urls_are_one_line",
            "tests/cli/test_database.py::test_a_password_is_not_shown",
            "tests/postgres/test_commands.py::test_commands_find_the_tables_where_they_are",
            "tests/libsql/test_opening.py::test_the_command",
        ),
        "B190": (
            "tests/sql/test_opening.py::test_two_worlds_with_one_url_share_a_pool",
            "tests/sql/test_opening.py::test_closing_one_keeps_the_other_working",
            "tests/postgres/test_opening.py::test_worlds_share_what_is_equal",
            "tests/libsql/test_opening.py::test_worlds_share_what_is_equal",
        ),
        "B191": (
            "tests/sql/test_connections.py::test_every_connection_has_the_pragmas",
            "tests/sql/test_connections.py::test_eight_processes_write_without_a_locked_database",
        ),
        "B192": (
            "tests/e2e/test_flows.py::test_the_flow_plays_to_its_end",
            "tests/libsql/test_sdk.py::test_the_flow_plays_to_its_end",
            "tests/vercel/test_sdk_install.py::test_install",
        ),
        "B193": (
            "tests/e2e/test_flows.py::test_the_flow_plays_to_its_end",
            "tests/libsql/test_sdk.py::test_the_flow_plays_to_its_end",
        ),
        "B194": ("tests/e2e/test_kill.py::test_killed_workers_lose_nothing",),
        "B195": (
            "tests/vercel/test_sdk_errors.py::test_an_error_is_both",
            "tests/vercel/test_sdk_errors.py::test_every_error_class_has_a_sample",
            "tests/vercel/test_sdk_errors.py::TestThroughTheAdapter::test_missing_things",
            "tests/vercel/test_sdk_errors.py::TestThroughTheAdapter::test_conflicts",
            "tests/postgres/test_opening.py::test_servers_that_cannot_be_used",
            "tests/postgres/test_timeouts.py::test_what_is_held_up_for_too_long",
            "tests/libsql/test_opening.py::test_a_refused_token_is_one_clear_error",
            "tests/libsql/test_lost.py::"
            "test_a_server_that_is_away_is_one_clear_error_and_comes_back",
            "tests/mongodb/test_outages.py::test_nobody_listens",
        ),
        "B196": (
            "tests/sql/test_options.py::test_secrets_are_never_shown",
            "tests/sql/test_options.py::test_repr_shows_no_url",
            "tests/cli/test_database.py::test_a_password_is_not_shown",
            "tests/postgres/test_opening.py::test_urls_that_are_none",
            "tests/postgres/test_opening.py::test_servers_that_cannot_be_used",
            "tests/mongodb/test_bad_input.py::test_secrets_are_never_shown",
            "tests/mongodb/test_bad_input.py::test_a_url_that_cannot_work",
        ),
        "B203": ("tests/vercel/test_sdk_models.py::TestUnrepresentable",),
    }
)
"""Tests outside the suite whose names do not say the number, by pytest's node ids."""

BACKENDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "memory": "memory:",
        "sqlite": "file:workflow.db",
        "postgres": "postgresql://localhost/workflow",
        "libsql": "libsql://localhost",
        "libsql-auth": "libsql://localhost",
        "libsql-replica": "libsql://localhost",
        "mongodb": "mongodb://localhost/workflow",
    }
)
"""What ``tests/conformance/test_NAME.py`` runs the suite on, as a URL to ask for capabilities."""

ENGINES: Final = ("sqlite", "postgres", "libsql", "mongodb")
"""Those that tests outside the suite have as a parameter; as ``ALL`` all of them, and as
``ENGINES`` those on SQL."""

IN_PART: Final[Mapping[str, str]] = MappingProxyType(
    {
        "libsql-auth": "it is libsql with a token in each request. "
        "The whole suite with `WORKFLOW_TEST_LIBSQL=all`.",
        "libsql-replica": "all writes, and what they rest on, are those of libsql. "
        "The whole suite with `WORKFLOW_TEST_LIBSQL=all`.",
    }
)
"""The backends on which a selection of the suite is run, and why that is enough."""

FOLDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cli": "sqlite",
        "core": "no database",
        "e2e": "sqlite",
        "libsql": "libsql",
        "migrations": "sqlite",
        "mongodb": "mongodb",
        "postgres": "postgres",
        "sql": "sqlite",
        "vercel": "memory",
    }
)
"""The backend that the tests of a folder under ``tests/`` run on, unless it is a parameter."""


def sections() -> dict[str, dict[str, str]]:
    """The texts by number, in groups by title."""
    found: dict[str, dict[str, str]] = {}
    group: dict[str, str] = {}
    number = ""
    for line in _TEXTS.splitlines():
        if line.startswith("# "):
            group = found.setdefault(line[2:], {})
        elif line.startswith("    "):
            group[number] += " " + line.strip()
        elif line:
            number, _, group[number] = line.partition(" ")
    return found
