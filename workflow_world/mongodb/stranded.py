"""What the recovery sweep reads: runs that may lack a wake-up, and what is known of them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from ..core.entities import FINAL_STATUSES, Message, Step
from ..core.recovery import RunFacts, StrandedStep
from ..errors import BackendError
from ..message_rows import is_unfinished, will_replay
from .client import Tables
from .documents import EVENTS, HOOKS, MESSAGES, RUNS, STEPS, Document, Kind
from .transaction import GONE

logger = logging.getLogger("workflow_world.mongodb")


def stranded(
    tables: Tables, now: datetime, after: str | None, limit: int
) -> tuple[Sequence[RunFacts], str | None]:
    """See ``RunStore.stranded``: pages of runs until one has enough candidates."""
    found: list[RunFacts] = []
    while True:
        about: dict[str, Any] = {"status": {"$in": ["pending", "running"]}}
        if after is not None:
            about["_id"] = {"$gt": after}
        cursor = tables[RUNS.collection].find(about, dict.fromkeys(RUNS.payloads, 0))
        runs = list(cursor.sort([("_id", 1)]).limit(limit))
        for facts in _facts_of(tables, runs, now):
            if facts.may_lack_a_wake_up:
                found.append(facts)
                if len(found) == limit:
                    return found, facts.run.run_id
        if len(runs) < limit:
            return found, None
        after = runs[-1]["_id"]


def _facts_of(tables: Tables, runs: Sequence[Document], now: datetime) -> Iterable[RunFacts]:
    ids = [run["_id"] for run in runs]
    if not ids:
        return
    of_these = {"$in": ids}
    messages = _by_run(
        tables,
        MESSAGES,
        {"run_id": of_these, "status": {"$in": ["pending", "processing", "failed"]}},
        {"payload": 0, "headers": 0},
    )
    open_steps = {"run_id": of_these, "status": {"$nin": sorted(FINAL_STATUSES)}}
    steps = _by_run(tables, STEPS, open_steps, dict.fromkeys(STEPS.payloads, 0))
    hooks = _by_run(tables, HOOKS, {"run_id": of_these}, {"run_id": 1})
    waits = _by_run(tables, EVENTS, {"open_wait": of_these}, {"run_id": 1, "due_at": 1})
    for run in runs:
        key = run["_id"]
        try:
            yield _facts(run, messages[key], steps[key], bool(hooks[key]), waits[key], now)
        except (BackendError, TypeError) as error:
            # The sweep is for all the others, too.
            logger.error("A run cannot be recovered, %s: %s", key, error)


def _facts(
    run: Document,
    messages: Sequence[Document],
    steps: Sequence[Document],
    has_hook: bool,
    waits: Sequence[Document],
    now: datetime,
) -> RunFacts:
    known: list[Message] = [MESSAGES.readable({**one, "payload": b""}) for one in messages]
    open_steps: list[Step] = sorted(map(STEPS.entity, steps), key=lambda step: step.step_id)
    expected = {message.step_id for message in known}
    unfinished = [message for message in known if is_unfinished(message)]
    return RunFacts(
        run=RUNS.entity(run),
        has_message=bool(unfinished),
        will_replay=any(will_replay(message, now) for message in unfinished),
        last_claim_at=_time(run, "last_claim_at"),
        last_waking_at=_time(run, "last_waking_at"),
        next_due_at=min(filter(None, (_time(one, "due_at") for one in waits)), default=None),
        has_hook=has_hook,
        has_open_step=bool(open_steps),
        stranded=[
            StrandedStep(
                step_id=step.step_id,
                step_name=step.step_name,
                retry_after=step.retry_after,
                updated_at=step.updated_at,
            )
            for step in open_steps
            if step.step_id not in expected
        ],
    )


def _time(document: Document, name: str) -> datetime | None:
    value = document.get(name)
    if value is not None and not isinstance(value, datetime):
        raise TypeError(f"the document with _id {document['_id']!r:.300} is damaged: {name}")
    return value


def _by_run(
    tables: Tables, kind: Kind[Any], about: dict[str, Any], fields: dict[str, int]
) -> defaultdict[str, list[Document]]:
    found: defaultdict[str, list[Document]] = defaultdict(list)
    for one in tables[kind.collection].find({**about, GONE: {"$exists": False}}, fields):
        found[one["run_id"]].append(one)
    return found
