"""The messages of a store, and the runs that none of them will wake."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, cast

from ..backend import Backend
from ..clock import Clock
from ..codec import decode
from ..core.entities import Message
from ..core.invariants import Finding
from ..core.messages import Subject, subject_of
from ..core.paging import Query
from ..core.queue_names import parse
from ..core.recovery import RunFacts, WakeUp, wake_ups
from ..core.ulid import ulid_time
from ..core.values import iso_ms
from ..errors import BackendError, InvalidQueueNameError
from ..settings import Settings
from .report import Notes
from .walk import Hole, Readable, UnreadableError, ulid_space, walk

_PAGE: Final = 200
_PREFIX: Final = "msg_"
_PAUSE_S: Final = 0.2
"""Between two looks at what may be on its way."""


def message_findings(message: Message) -> list[Finding]:
    """What is wrong with a message by itself."""
    found = [_finding("message-state", message, text) for text in _states(message)]
    if not message.message_id.startswith(_PREFIX) or not ulid_time(message.message_id[4:]):
        found.append(_finding("message-malformed", message, "its id is not msg_ and a ULID"))
    try:
        parse(message.queue_name)
    except InvalidQueueNameError:
        found.append(_finding("message-malformed", message, "no queue has such a name"))
    try:
        body: object = decode(message.payload)
    except BackendError as error:
        return [*found, _finding("message-body", message, str(error))]
    subject = subject_of(body)
    if subject != Subject(run_id=message.run_id, step_id=message.step_id, is_bare=subject.is_bare):
        text = "its run or step is not the one that its body names"
        found.append(_finding("message-malformed", message, text))
    return found


def _states(message: Message) -> list[str]:
    found: list[str] = []
    leased = message.status == "processing"
    if leased != (message.lease_token is not None) or leased != (message.leased_until is not None):
        found.append(f"it is {message.status} {'without' if leased else 'with'} a lease")
    finished = message.status in ("completed", "failed")
    if finished != (message.processed_at is not None):
        found.append(f"it is {message.status}, and its end is {message.processed_at}")
    if message.attempt < 1 or message.deliveries < 0:
        found.append(f"attempt {message.attempt} of delivery {message.deliveries}")
    return found


def is_unfinished(message: Message) -> bool:
    return message.status in ("pending", "processing")


def lease_ran_out(message: Message, before: datetime) -> bool:
    """Whether the message has been held by nobody since ``before``."""
    return (
        message.status == "processing"
        and message.leased_until is not None
        and message.leased_until <= before
    )


class QueueCheck:
    """``grace`` is how long a sender and a worker may take for what they do in two steps."""

    def __init__(
        self, backend: Backend, settings: Settings, clock: Clock, notes: Notes, grace: timedelta
    ) -> None:
        self._backend, self._settings, self._clock = backend, settings, clock
        self._notes, self._grace = notes, grace
        self._readable = Readable(backend)
        self._lease_grace = grace + timedelta(milliseconds=settings.recovery_interval_ms)

    async def run(self) -> None:
        space = ulid_space(_PREFIX)
        async for page in walk(self._readable, self._list, space, limit=_PAGE):
            if isinstance(page, Hole):
                await self._hole(page)
                continue
            for message in page:
                self._notes.add(*message_findings(message))
            await self._in_time(page)
            self._notes.saw("messages", len(page))
            self._notes.tell("messages")

    async def _list(self, after: str | None, limit: int) -> tuple[Sequence[Message], str | None]:
        rows = await self._backend.messages.list_messages(
            status=None, run_id=None, queue_name=None, after=after, limit=limit
        )
        return rows, rows[-1].message_id if len(rows) == limit else None

    async def _hole(self, hole: Hole[str]) -> None:
        message_id = hole.key
        if message_id is not None:
            try:
                await self._readable(self._backend.messages.get_message, message_id)
                message_id = None
            except UnreadableError:
                self._notes.saw("messages")
        text = hole.reason if message_id else f"a message that cannot be named: {hole.reason}"
        if hole.key is None:
            text += "; no message behind it could be listed"
        self._notes.add(Finding(kind="message-unreadable", subject=message_id, detail=text))

    # --- what only time tells ------------------------------------------------------------

    async def _in_time(self, page: Sequence[Message]) -> None:
        suspects = [one for one in page if await self._judge(one) is not None]
        if not suspects:
            return
        await asyncio.sleep(_PAUSE_S)
        for message in suspects:
            try:
                fresh = await self._readable(self._backend.messages.get_message, message.message_id)
            except UnreadableError:
                continue
            if fresh is not None and (finding := await self._judge(fresh)) is not None:
                self._notes.add(finding)

    async def _judge(self, message: Message) -> Finding | None:
        now = self._clock.now()
        if lease_ran_out(message, now - self._lease_grace):
            assert message.leased_until is not None
            text = f"its lease ran out at {iso_ms(message.leased_until)}"
            return _finding("lease-expired", message, text)
        if is_unfinished(message) and message.created_at <= now - self._grace:
            return await orphan(self._readable, self._backend, message)
        return None


async def orphan(readable: Readable, backend: Backend, message: Message) -> Finding | None:
    """The finding for a message whose run is not there, and which will not create it either."""
    run_id = message.run_id
    if run_id is None or _creates(message):
        return None
    try:
        if await readable(backend.runs.get_run, run_id, payloads=False) is not None:
            return None
        query = Query(kind="events", run_id=run_id, descending=True, limit=1)
        if await readable(backend.runs.list_events, query):
            text = f"message {message.message_id} is for it, its log is there"
            return Finding(kind="run-missing", run_id=run_id, subject=run_id, detail=text)
    except UnreadableError:
        return None
    return _finding("message-orphan", message, "its run does not exist")


def _creates(message: Message) -> bool:
    """A start carries what its run is created from, should it not be there (spec 2.5)."""
    try:
        body: object = decode(message.payload)
    except BackendError:
        return True
    return isinstance(body, Mapping) and "runInput" in cast("Mapping[object, object]", body)


class WakeUpCheck:
    """Runs that the recovery pass would have to wake, and those that it cannot help."""

    def __init__(
        self, backend: Backend, settings: Settings, clock: Clock, notes: Notes, grace: timedelta
    ) -> None:
        self._backend, self._settings, self._clock = backend, settings, clock
        self._notes, self._grace = notes, grace
        self._place: str | None = None

    async def run(self) -> None:
        readable = Readable(self._backend)
        async for page in walk(readable, self._list, ulid_space("wrun_"), limit=_PAGE):
            if isinstance(page, Hole):
                continue  # the run itself is a finding
            first = {_key(one) for facts in page for one in self.findings(facts)}
            if first:
                await asyncio.sleep(_PAUSE_S)
                fresh = await self._again(readable, page[-1].run.run_id)
                again = [one for facts in fresh for one in self.findings(facts)]
                self._notes.add(*(one for one in again if _key(one) in first))

    async def _list(self, after: str | None, limit: int) -> tuple[Sequence[RunFacts], str | None]:
        self._place = after
        return await self._backend.runs.stranded(after=after, limit=limit)

    async def _again(self, readable: Readable, last: str) -> list[RunFacts]:
        """The facts of the runs of the page just read, up to run id ``last``, as they are now."""
        found: list[RunFacts] = []
        after = self._place
        while True:
            try:
                page, after = await readable(self._backend.runs.stranded, after=after, limit=_PAGE)
            except UnreadableError:
                return found
            found.extend(page)
            if after is None or after >= last:
                return found

    def findings(self, facts: RunFacts) -> list[Finding]:
        """What a run lacks. A wait in the future, or a hook alone, is nothing to lack."""
        found = wake_ups(
            facts,
            now=self._clock.now(),
            grace=self._grace,
            at_start=facts.next_due_at is None,
            namespace=self._settings.queue_namespace,
        )
        blocked = facts.has_open_step and not facts.stranded and facts.next_due_at is None
        return [_stuck(one, blocked=blocked and one.step_id is None) for one in found]


def _stuck(wake_up: WakeUp, *, blocked: bool) -> Finding:
    if blocked and wake_up.reason == _AT_START:
        return Finding(
            kind="run-blocked",
            run_id=wake_up.run_id,
            subject=wake_up.run_id,
            detail="its open steps have failed messages and no other",
        )
    return Finding(
        kind="run-stuck",
        run_id=wake_up.run_id,
        subject=wake_up.step_id or wake_up.run_id,
        detail=wake_up.reason,
        wake_up=wake_up,
    )


_AT_START: Final = "running run without a message"


def _key(finding: Finding) -> tuple[object, ...]:
    return finding.kind, finding.run_id, finding.subject


def _finding(kind: str, message: Message, detail: str) -> Finding:
    return Finding(kind=kind, run_id=message.run_id, subject=message.message_id, detail=detail)
