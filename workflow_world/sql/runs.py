"""The run store on SQL: load facts, let the rules decide, apply, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..backend import Facts, Intent
from ..core.decision import Decision, LastEvent, Needs, Refusal, Verdict
from ..core.entities import Event, EventResult, Hook, Run, Step, Wait
from ..core.fold import wait_of
from ..core.paging import Query
from ..core.recovery import RunFacts
from ..core.values import from_ms
from ..signals import run_topic
from . import lists
from .compiled import Read, Row, Session, Statement
from .contention import MAX_LOOKS, contended
from .damage import RUN_WIDTH, checked
from .heads import Heads
from .holding import Holding
from .lane import Locks
from .log_cache import LogCache
from .rows import (
    event_of,
    event_values,
    hook_of,
    hook_values,
    run_changes,
    run_of,
    run_values,
    step_changes,
    step_of,
    step_values,
    when,
)
from .run_statements import RunStatements
from .stranded import StrandedReader

if TYPE_CHECKING:
    from .database import Database

_EVENT_WIDTH, _EVENT_DATA = 12, 6
_MAX_IDS = 30_000  # what every engine takes as parameters of one statement


class SqlRunStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = RunStatements(database.tables)
        self._stranded = StrandedReader(database.tables)
        self._holding = Holding(database.tables)
        self._log = LogCache(self._statements)

    async def write(self, intent: Intent) -> EventResult:
        verdict = None
        if intent.mostly_reads:
            verdict = await self._database.glance(
                lambda session: self.verdict(session, intent), whole=True
            )
        if verdict is None or isinstance(verdict, Refusal) or verdict.writes:
            verdict = await self._database.write(
                lambda session: self.decide(session, intent),
                locks=Locks(
                    runs=(intent.run_id,),
                    ahead=lambda _: self._reads_of_run(intent),
                    lease=self._holding.kept(intent.needs.leased),
                ),
            )
        if isinstance(verdict, Refusal):
            raise verdict.error
        if verdict.ended:
            self._database.hub.notify(run_topic(intent.run_id))
        return verdict.result

    def verdict(self, session: Session, intent: Intent) -> Verdict:
        """What the rules say of the intent, on the facts as they are now."""
        facts = self._facts(session, intent, None, locked=False)
        return intent.decide(facts, self._database.clock.now())

    def decide(self, session: Session, intent: Intent) -> Verdict:
        """The verdict, and its writes when it is a decision. In a write transaction that has
        locked the run."""
        heads = self._database.heads
        for _ in range(MAX_LOOKS):
            facts = self._facts(session, intent, heads)
            verdict = intent.decide(facts, self._database.clock.now())
            if isinstance(verdict, Refusal) or not verdict.writes:
                return verdict
            if self._apply(session, intent.run_id, verdict):
                if heads is not None:
                    heads.learn(intent.run_id, facts.run, verdict)
                if verdict.ended:
                    session.announce(run_topic(intent.run_id))
                return verdict
            # Another transaction was first, with the run or the token. It is committed by now.
            session.one(self._statements.lock, run_id=intent.run_id)
        raise contended(f"run {intent.run_id!r}")

    def _facts(
        self, session: Session, intent: Intent, heads: Heads | None, *, locked: bool = True
    ) -> Facts:
        needs, run_id, s = intent.needs, intent.run_id, self._statements
        if session.is_remote:
            session.read_ahead(self._reads(intent, locked=locked))
        run, last = self._run(session, run_id, needs, heads)
        step = hook = holder = resumed = None
        if needs.step_id is not None:
            step = None if heads is None else heads.step(run_id, needs.step_id)
            if step is None:
                found = session.one(s.step, run_id=run_id, step_id=needs.step_id)
                step = None if found is None else step_of(found)
        if needs.hook_id is not None:
            found = session.one(s.hook, run_id=run_id, hook_id=needs.hook_id)
            hook = None if found is None else hook_of(found)
        if needs.token is not None:
            found = session.one(s.token_holder, token=needs.token)
            holder = None if found is None else hook_of(found)
        if needs.resume_id is not None:
            found = session.one(s.resumed, run_id=run_id, resume_id=needs.resume_id)
            resumed = None if found is None else event_of(found)
        leased, claim = needs.leased, None
        if needs.last_claim:
            claims = session.one(s.last_claim, run_id=run_id) or ()
            claim = when(max((one for one in claims if one is not None), default=None))
        return Facts(
            last_claim_at=claim,
            lease_token=None
            if leased is None
            else self._holding.token(session, leased, locked=locked),
            run=run,
            last=last,
            step=step,
            hook=hook,
            token_holder=holder,
            related=self._related(session, run_id, needs),
            resumed=resumed,
        )

    def _reads(self, intent: Intent, *, locked: bool) -> list[Read]:
        """All that ``_facts`` is going to read."""
        s, needs, reads = self._statements, intent.needs, self._reads_of_run(intent)
        if needs.token is not None:
            reads.append((s.token_holder, {"token": needs.token}))
        if needs.leased is not None:
            reads.append(self._holding.reading(needs.leased, locked=locked))
        return reads

    def _reads_of_run(self, intent: Intent) -> list[Read]:
        """Those that nobody changes who has not locked the run."""
        s, needs, run_id = self._statements, intent.needs, intent.run_id
        reads: list[Read] = [(s.run if needs.payloads else s.run_head, {"run_id": run_id})]
        if needs.step_id is not None:
            reads.append((s.step, {"run_id": run_id, "step_id": needs.step_id}))
        if needs.hook_id is not None:
            reads.append((s.hook, {"run_id": run_id, "hook_id": needs.hook_id}))
        if needs.resume_id is not None:
            reads.append((s.resumed, {"run_id": run_id, "resume_id": needs.resume_id}))
        if needs.related and needs.correlation_id is not None:
            about = {"run_id": run_id, "correlation_id": needs.correlation_id}
            reads.append((s.related(needs.related), about))
        return reads

    def _run(
        self, session: Session, run_id: str, needs: Needs, heads: Heads | None
    ) -> tuple[Run | None, LastEvent | None]:
        """The run and the newest event of its log."""
        if heads is not None and not needs.payloads and (known := heads.run(run_id)) is not None:
            return known
        s = self._statements
        row = session.one(s.run if needs.payloads else s.run_head, run_id=run_id)
        return (None, None) if row is None else (run_of(row), _last_of(row))

    def _related(self, session: Session, run_id: str, needs: Needs) -> tuple[Event, ...]:
        if not needs.related or needs.correlation_id is None:
            return ()
        rows = session.all(
            self._statements.related(needs.related),
            run_id=run_id,
            correlation_id=needs.correlation_id,
        )
        return tuple(sorted(map(event_of, rows), key=lambda event: event.position))

    def _apply(self, session: Session, run_id: str, decision: Decision) -> bool:
        """False: another transaction has stored the run or the hook's token meanwhile, and
        nothing was written. So those two come first."""
        # Everything is encoded before the first write: a value that cannot be is a refusal.
        s = self._statements
        events = [event_values(event) for event in decision.events]
        for event, row in zip(decision.events, events, strict=True):
            # Whatever else is written of a decision is a part of these.
            self._database.check_size(f"The data of event {event.event_type}", row[_EVENT_DATA])
        run, step, hook = decision.run, decision.step, decision.hook
        writes: list[tuple[Statement, dict[str, Any] | tuple[Any, ...]]] = []
        if run is not None:
            writes.append(
                (s.insert_run, run_values(run))
                if decision.run_is_new
                else (s.update_run, run_changes(run))
            )
        if hook is not None:
            writes.append((s.insert_hook, hook_values(hook)))
        firsts = decision.run_is_new + (hook is not None)
        writes.extend((s.insert_event, values) for values in events)
        if step is not None:
            writes.append(
                (s.insert_step, step_values(step))
                if decision.step_is_new
                else (s.update_step, step_changes(step))
            )
        if decision.disposed_hook is not None:
            writes.append((s.delete_hook, {"run_id": run_id, "hook_id": decision.disposed_hook}))
        if decision.closed_wait is not None:
            writes.append((s.close_wait, {"b_run_id": run_id, "b_position": decision.closed_wait}))
        if decision.ended:
            writes.append((s.delete_hooks, {"run_id": run_id}))
            writes.append((s.close_waits, {"b_run_id": run_id}))
        for number, (statement, values) in enumerate(writes):
            if number >= firsts:
                session.send(statement, values)
            elif not session.put(statement, values):
                if number:
                    raise contended(f"run {run_id!r}")
                return False
        if events:
            session.prove(s.stored_event, dict(zip(s.insert_event.names, events[0], strict=True)))
        return True

    # --- reads ---------------------------------------------------------------------------

    async def get_run(self, run_id: str, *, payloads: bool = True) -> Run | None:
        statement = self._statements.run if payloads else self._statements.run_head
        row = await self._database.glance(lambda session: session.one(statement, run_id=run_id))
        return None if row is None else run_of(row)

    async def get_runs(self, run_ids: Sequence[str]) -> Mapping[str, Run]:
        ids = list(dict.fromkeys(run_ids))
        statements = [
            self._statements.runs_by_id(ids[first : first + _MAX_IDS])
            for first in range(0, len(ids), _MAX_IDS)
        ]
        rows = await self._database.read(
            lambda session: [row for statement in statements for row in session.all(statement)]
        )
        return {row[0]: run_of(row) for row in rows}

    async def get_step(self, run_id: str | None, step_id: str) -> Step | None:
        s = self._statements

        def read(session: Session) -> Row | None:
            if run_id is None:
                return session.one(s.newest_step, step_id=step_id)
            return session.one(s.step, run_id=run_id, step_id=step_id)

        row = await self._database.glance(read)
        return None if row is None else step_of(row)

    async def get_event(self, run_id: str, event_id: str) -> Event | None:
        statement = self._statements.event
        row = await self._database.glance(
            lambda session: session.one(statement, run_id=run_id, event_id=event_id)
        )
        return None if row is None else event_of(row)

    async def get_hook(
        self, *, hook_id: str | None = None, token: str | None = None
    ) -> Hook | None:
        s = self._statements

        def read(session: Session) -> Row | None:
            if token is not None:
                return session.one(s.token_holder, token=token)
            return session.one(s.newest_hook, hook_id=hook_id)

        row = await self._database.glance(read)
        return None if row is None else hook_of(row)

    async def list_runs(self, query: Query) -> Sequence[Run]:
        statement = lists.list_runs(self._database.tables, query)
        rows = await self._database.read(lambda session: session.all(statement))
        return list(map(run_of, rows))

    async def list_steps(self, query: Query) -> Sequence[Step]:
        statement = lists.list_steps(self._database.tables, query)
        rows = await self._database.read(lambda session: session.all(statement))
        return list(map(step_of, rows))

    async def list_events(self, query: Query) -> Sequence[Event]:
        run_id, after = query.run_id, 0 if query.after is None else query.after[0]
        if run_id is None or query.descending or query.correlation_id or query.event_types:
            statement = lists.list_events(self._database.tables, query)
            rows = await self._database.read(lambda session: session.all(statement))
            return list(map(event_of, rows))
        position, limit = int(after), query.limit
        # Most logs are short, or known but for the end.
        known, few = max(self._log.known(run_id) - position, 0), self._database.few_events
        if few or known:
            most = min(limit, known + few) if few else limit
            found = await self._database.glance(
                lambda session: self._log.read(session, run_id, position, most)
            )
            if len(found) < most or most == limit:
                return found
        return await self._database.read(
            lambda session: self._log.read(session, run_id, position, limit)
        )

    async def list_hooks(self, query: Query) -> Sequence[Hook]:
        statement = lists.list_hooks(self._database.tables, query)
        rows = await self._database.read(lambda session: session.all(statement))
        return list(map(hook_of, rows))

    async def list_waits(self, query: Query) -> Sequence[Wait]:
        statement = lists.list_waits(self._database.tables, query)
        rows = await self._database.read(lambda session: session.all(statement))
        return list(map(_wait_of, rows))

    async def stranded(
        self, *, after: str | None, limit: int
    ) -> tuple[Sequence[RunFacts], str | None]:
        return await self._database.read(lambda session: self._stranded.read(session, after, limit))


def _last_of(row: Row) -> LastEvent | None:
    position, event_id, created_at = row[RUN_WIDTH : RUN_WIDTH + 3]
    if position is None:
        return None
    where = f"The row of workflow_events with run_id {row[0]!r}, position {position!r}"
    checked(where, row[RUN_WIDTH : RUN_WIDTH + 3], int, str, int)
    return LastEvent(position, event_id, from_ms(created_at))


def _wait_of(row: Row) -> Wait:
    completed = row[_EVENT_WIDTH:]
    return wait_of(event_of(row), None if completed[0] is None else event_of(completed))
