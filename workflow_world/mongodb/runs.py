"""Runs, steps, hooks, waits and the event log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from ..core.decision import Intent, Refusal, Verdict
from ..core.entities import Event, EventResult, Hook, Run, Step, Wait
from ..core.paging import Query
from ..core.recovery import RunFacts
from ..core.resolve import without_payloads
from . import lists
from .client import Tables
from .database import Database
from .documents import EVENTS, HOOKS, RUNS, STEPS, Document, Kind, step_key
from .intents import ahead_of, carry_out, facts_of
from .stranded import stranded
from .transaction import GONE, Transaction

T = TypeVar("T", Run, Step, Event, Hook)

_MAX_IDS: Final = 500
_NEWEST: Final = [("created_at", -1), ("run_id", -1)]


class MongoRuns:
    """Satisfies ``backend.RunStore``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, intent: Intent) -> EventResult:
        database = self._database
        verdict: Verdict | None = None
        if intent.mostly_reads:

            def look(tables: Tables) -> Verdict | None:
                before = database.journal.settled().number
                transaction = Transaction(tables, database.queue_now())
                seen = intent.decide(facts_of(transaction, intent), database.clock.now())
                # Facts of two states are none.
                return seen if database.journal.settled().number == before else None

            verdict = await database.read(look)
        if verdict is None or isinstance(verdict, Refusal) or verdict.writes:
            verdict = await database.write(
                lambda transaction: carry_out(database, transaction, intent),
                ahead=ahead_of(intent),
            )
        if isinstance(verdict, Refusal):
            raise verdict.error
        return verdict.result

    async def get_run(self, run_id: str, *, payloads: bool = True) -> Run | None:
        found = await self._find_one(RUNS, {"_id": run_id}, lists.wanted(RUNS, payloads=payloads))
        return None if found is None else _entities(RUNS, [found], payloads=payloads)[0]

    async def get_runs(self, run_ids: Sequence[str]) -> Mapping[str, Run]:
        ids = list(dict.fromkeys(run_ids))
        if not ids:
            return {}

        def read(tables: Tables) -> list[Document]:
            pages = (ids[first : first + _MAX_IDS] for first in range(0, len(ids), _MAX_IDS))
            return [
                one
                for some in pages
                for one in tables[RUNS.collection].find({"_id": {"$in": some}})
            ]

        return {one["_id"]: RUNS.entity(one) for one in await self._database.read(read)}

    async def get_step(self, run_id: str | None, step_id: str) -> Step | None:
        about = {"step_id": step_id} if run_id is None else {"_id": step_key(run_id, step_id)}
        found = await self._find_one(STEPS, about)
        return None if found is None else STEPS.entity(found)

    async def get_event(self, run_id: str, event_id: str) -> Event | None:
        found = await self._find_one(EVENTS, {"run_id": run_id, "event_id": event_id})
        return None if found is None else EVENTS.entity(found)

    async def get_hook(
        self, *, hook_id: str | None = None, token: str | None = None
    ) -> Hook | None:
        about = {"hook_id": hook_id} if token is None else {"token": token}
        found = await self._find_one(HOOKS, about)
        return None if found is None else HOOKS.entity(found)

    async def list_runs(self, query: Query) -> Sequence[Run]:
        return await self._page(RUNS, query)

    async def list_steps(self, query: Query) -> Sequence[Step]:
        return await self._page(STEPS, query)

    async def list_events(self, query: Query) -> Sequence[Event]:
        return await self._page(EVENTS, query)

    async def list_hooks(self, query: Query) -> Sequence[Hook]:
        return await self._page(HOOKS, query)

    async def list_waits(self, query: Query) -> Sequence[Wait]:
        return await self._database.read(lambda tables: lists.waits(tables, query))

    async def stranded(
        self, *, after: str | None, limit: int
    ) -> tuple[Sequence[RunFacts], str | None]:
        database = self._database
        return await database.read(
            lambda tables: stranded(tables, database.queue_now(), after, limit)
        )

    async def _page(self, kind: Kind[T], query: Query) -> list[T]:
        found = await self._database.read(lambda tables: lists.documents(tables, kind, query))
        return _entities(kind, found, payloads=query.payloads)

    async def _find_one(
        self, kind: Kind[Any], about: Mapping[str, Any], fields: Any = None
    ) -> Document | None:
        """The newest, where there may be several."""

        def read(tables: Tables) -> Document | None:
            alive = {**about, GONE: {"$exists": False}}
            return tables[kind.collection].find_one(alive, fields, sort=_NEWEST)

        return await self._database.read(read)


def _entities(kind: Kind[T], found: Sequence[Document], *, payloads: bool) -> list[T]:
    rows = [kind.entity(one) for one in found]
    return rows if payloads else [without_payloads(row) for row in rows]
