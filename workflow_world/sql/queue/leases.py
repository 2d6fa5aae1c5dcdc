"""What becomes of a claimed message: extended, settled, or free again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ...backend import Intent, Lease, Presence
from ...core.decision import Decision
from ...core.delivery import Settlement
from ...core.values import to_ms
from ...signals import QUEUE, run_topic
from ..compiled import Read, Session
from ..lane import Locks, Operation
from ..rows import json_of, message_of
from .base import QueueBase, first_due

logger = logging.getLogger("workflow_world.lease")


class Leases(QueueBase):
    def extend(self, leases: Sequence[Lease], lease: timedelta) -> frozenset[str]:
        def extending(some: Sequence[Lease]) -> tuple[Operation[list[str]], Locks]:
            def extend(session: Session) -> list[str]:
                until = to_ms(session.now() + lease)
                return [
                    held.message_id
                    for held in some
                    if not session.run(
                        self._statements.extend,
                        b_message_id=held.message_id,
                        b_token=held.token,
                        until=until,
                    )
                ]

            ids = tuple(held.message_id for held in some)
            return extend, Locks(messages=ids, key=min(ids, default=""))

        if self._database.concurrent:
            # A row that somebody holds must not cost the other leases, nor the next claim: nobody
            # takes it meanwhile, and the next extension tells whether it was taken since.
            each = self._database.write_each_blocking([extending([held]) for held in leases])
            if count := each.count(None):
                logger.warning("%d leases are not extended yet: somebody holds their rows", count)
            return frozenset(message_id for lost in each for message_id in lost or ())
        operation, locks = extending(leases)
        return frozenset(self._database.write_blocking(operation, repeatable=True, locks=locks))

    async def settle(
        self, settlements: Sequence[tuple[Settlement, Intent | None]]
    ) -> Sequence[bool]:
        together = [one for one, intent in settlements if one.only_ends and intent is None]
        replayed = list(dict.fromkeys(one.replayed for one, _ in settlements if one.replayed))
        ended: list[str] = []
        held_back = False

        def reads(session: Session) -> list[Read]:
            found = [self._holding_back(run_id) for run_id in replayed]
            return [*found, self._held(session, together)] if together else found

        def settle_all(session: Session) -> list[bool]:
            nonlocal held_back
            ended.clear()
            if session.is_remote:
                session.read_ahead(reads(session))
            held_back = any(self._holds_back(session, run_id) for run_id in replayed)
            over = self._end(session, together)
            settled = [
                over.pop(one.lease_token, False)
                if one.only_ends and intent is None
                else self._settle(session, one, intent, ended)
                for one, intent in settlements
            ]
            if held_back or any(one.status == "pending" for one, _ in settlements):
                session.announce(QUEUE)
            return settled

        settled = await self._database.write(
            settle_all,
            repeatable=all(intent is None for _, intent in settlements),
            # The slots are free already, and who waits for a replay's end can wait a moment more.
            unhurried=len(together) == len(settlements),
            locks=Locks(
                runs=tuple(intent.run_id for _, intent in settlements if intent is not None),
                messages=tuple(one.message_id for one, _ in settlements),
                key=min((one.message_id for one, _ in settlements), default=""),
                ahead=reads,
            ),
        )
        for run_id in ended:
            self._database.hub.notify(run_topic(run_id))
        if held_back or any(one.status == "pending" for one, _ in settlements):
            self._tell()
        return settled

    def _holds_back(self, session: Session, run_id: str) -> bool:
        """Whether another message of the run waits for this replay to end."""
        statement, values = self._holding_back(run_id)
        now = session.now()
        due = first_due(session.one(statement, **values), now)
        return due is not None and due <= now

    def _holding_back(self, run_id: str) -> Read:
        return self._statements.held_back, {"run_id": run_id}

    def _held(self, session: Session, ones: Sequence[Settlement]) -> Read:
        ids, tokens = _listed(session, ones)
        return self._statements.held, {"b_message_ids": ids, "b_tokens": tokens}

    def _end(self, session: Session, ones: Sequence[Settlement]) -> dict[str, bool]:
        """Settle those of the messages on which the leases are live, all with one statement.

        Returns: the tokens of these leases. A lost one of the same message may be among ``ones``.
        """
        if not ones:
            return {}
        at = max(to_ms(one.updated_at) for one in ones) + self._ahead(session)
        values = (at, at, *_listed(session, ones))
        if len(ones) == 1 and not session.is_remote:
            return {ones[0].lease_token: True} if session.run(self._statements.end, values) else {}
        statement, about = self._held(session, ones)
        held = {row[0]: True for row in session.all(statement, **about)}
        if held:
            session.send(self._statements.end, values)
        return held

    def _ahead(self, session: Session) -> int:
        """A settlement's times are this process's, the queue's may be the server's. In ms."""
        return to_ms(session.now()) - to_ms(self._now()) if self._database.server_time else 0

    def _settle(
        self, session: Session, one: Settlement, intent: Intent | None, ended: list[str]
    ) -> bool:
        s = self._statements
        if one.unless_key_held and session.one(
            s.key_holder, key=one.idempotency_key, except_id=one.message_id
        ):
            # Another message will wake the run: this one is done, and takes nothing from it.
            row = session.one(s.get_locked, message_id=one.message_id)
            if row is None:
                return False
            held = message_of(row)
            one = replace(
                one,
                status="completed",
                attempt=held.attempt,
                deliveries=held.deliveries,
                idempotency_key=held.idempotency_key,
                available_at=held.available_at,
            )
        ahead = self._ahead(session)
        at, is_over = to_ms(one.updated_at) + ahead, one.status != "pending"
        values = (
            one.status,
            one.attempt,
            one.deliveries,
            one.idempotency_key,
            to_ms(one.available_at) + (0 if is_over else ahead),
            is_over,
            json_of(one.last_error),
            at,
            at if is_over else None,
            one.message_id,
            one.lease_token,
        )
        count = session.run(s.settle, values)
        if count and intent is not None:
            verdict = self._runs.decide(session, intent)
            if isinstance(verdict, Decision) and verdict.ended:
                ended.append(intent.run_id)
        return bool(count)

    async def reap(self) -> int:
        def reap(session: Session) -> int:
            now = to_ms(session.now())
            count = session.run(self._statements.free_expired, now=now, v_now=now)
            if count:
                session.announce(QUEUE)
            return count

        count = await self._database.write(reap)
        if count:
            self._tell()
        return count

    async def enter(self) -> Presence:
        return await self._database.announce(self._free_all)

    async def _free_all(self) -> int:
        count = await self._database.write(
            lambda session: session.run(self._statements.free_all, v_now=to_ms(session.now()))
        )
        if count:
            self._tell()
        return count


def _listed(session: Session, ones: Sequence[Settlement]) -> tuple[Any, Any]:
    """Their messages and their tokens, as parameters."""
    return (
        session.listed(one.message_id for one in ones),
        session.listed(one.lease_token for one in ones),
    )
