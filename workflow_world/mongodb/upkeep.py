"""Messages go, come back and can be looked at; workers come and go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, cast

from ..backend import OLDEST, Presence, Retention
from ..core.entities import Message, MessageStatus, QueueStats
from ..message_rows import holder, is_leased, is_unfinished, pending_again
from ..signals import QUEUE
from .client import Tables
from .database import Database
from .documents import HOOKS, MESSAGES, Document
from .journal import META
from .lists import storable
from .transaction import GONE, Transaction

_KEPT: Final = timedelta(days=1)
"""How long what is deleted is kept, without its content: see ``transaction.GONE``."""
_ALIVE: Final = {GONE: {"$exists": False}}


def begins_with(prefixes: Sequence[str] | None) -> dict[str, Any]:
    """A filter for queue names."""
    if prefixes is None:
        return {}
    return {"$or": [{"queue_name": {"$gte": one, **_below(_behind(one))}} for one in prefixes]}


def _below(bound: str) -> dict[str, str]:
    return {"$lt": bound} if bound else {}


def _behind(prefix: str) -> str:
    """The least text that is behind all that begin so; the empty text: there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return ""
    last = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if 0xD800 <= last < 0xE000 else last)


def put_message(transaction: Transaction, message: Message, *, new: bool = False) -> None:
    """Store it, with what the indexes need."""
    document = MESSAGES.document(message)
    if message.replays is not None:
        document["replays"] = message.replays
    if message.idempotency_key is not None and is_unfinished(message):
        document["held_key"] = message.idempotency_key
    if new:
        transaction.insert(MESSAGES.collection, document)
    else:
        transaction.put(MESSAGES.collection, document)
    if message.status == "pending":
        transaction.topics.append(QUEUE)


class Nobody:
    """Satisfies ``backend.Presence``: no worker can prove that no other one is alive."""

    def close(self) -> None:
        """There is no mark to remove."""


class Upkeep:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def enter(self) -> Presence:
        await self._database.open()
        return Nobody()

    async def reap(self) -> int:
        def operation(transaction: Transaction) -> int:
            now = transaction.queue_now
            expired = {"status": "processing", "leased_until": {"$not": {"$gt": now}}}
            count = 0
            for one in transaction.find(MESSAGES.collection, expired):
                message = MESSAGES.readable(one)
                if message.status != "processing" or is_leased(message, now):
                    continue
                count += 1
                if message.damage is None:
                    put_message(transaction, pending_again(message, now))
                else:
                    transaction.change(
                        MESSAGES.collection,
                        one["_id"],
                        status="pending",
                        lease_token=None,
                        leased_until=None,
                        is_wake_up=False,
                        updated_at=now,
                    )
                    transaction.topics.append(QUEUE)
            return count

        now = await self._database.read(lambda tables: self._database.queue_now())
        expired = {"status": "processing", "leased_until": {"$not": {"$gt": now}}, **_ALIVE}
        found = await self._database.read(
            lambda tables: tables[MESSAGES.collection].find_one(expired, {"_id": 1})
        )
        return 0 if found is None else await self._database.write(operation)

    async def prune(self, retention: Retention, *, limit: int) -> int:
        def old(now: datetime) -> list[tuple[str, dict[str, Any]]]:
            return [
                (status, {"status": status, "processed_at": {"$lt": now - kept}})
                for status, kept in (
                    ("completed", retention.completed),
                    ("failed", retention.failed),
                )
            ]

        def look(tables: Tables) -> bool:
            now = self._database.queue_now()
            long_ago = now - _KEPT
            for collection in (MESSAGES.collection, HOOKS.collection):
                tables[collection].delete_many({GONE: {"$lt": long_ago}})
            # Parts of entries whose writer died before their commit.
            tables[META].delete_many({"part_of": {"$exists": True}, "at": {"$lt": long_ago}})
            return any(
                tables[MESSAGES.collection].find_one({**about, **_ALIVE}, {"_id": 1})
                for _, about in old(now)
            )

        if not await self._database.read(look):
            return 0

        def operation(transaction: Transaction) -> int:
            found: list[Document] = []
            for status, about in old(transaction.queue_now):
                before = about["processed_at"]["$lt"]
                found.extend(
                    one
                    for one in transaction.find(
                        MESSAGES.collection, about, order=(("processed_at", 1),), limit=limit
                    )
                    if one.get("status") == status and one["processed_at"] < before
                )
            found.sort(key=lambda one: (one["processed_at"], one["_id"]))
            for one in found[:limit]:
                transaction.drop(MESSAGES.collection, one["_id"])
            return len(found[:limit])

        return await self._database.write(operation)

    async def unserved(
        self, *, prefixes: Sequence[str], overdue: timedelta
    ) -> Mapping[str, datetime]:
        def look(tables: Tables) -> Mapping[str, datetime]:
            before = self._database.queue_now() - overdue
            about = {"status": "pending", "available_at": {"$lte": before}, **_ALIVE}
            cursor = tables[MESSAGES.collection].find(about, {"queue_name": 1, "available_at": 1})
            found: dict[str, datetime] = {}
            for one in cursor.sort([("available_at", 1)]).limit(OLDEST):
                name: str = one["queue_name"]
                if not name.startswith(tuple(prefixes)):
                    found.setdefault(name, one["available_at"])
            return found

        return await self._database.read(look)

    async def stats(self) -> QueueStats:
        def look(tables: Tables) -> QueueStats:
            messages = tables[MESSAGES.collection]
            counts: defaultdict[str, Counter[MessageStatus]] = defaultdict(Counter)
            groups = messages.aggregate(
                [
                    {"$match": _ALIVE},
                    {
                        "$group": {
                            "_id": {"queue": "$queue_name", "status": "$status"},
                            "count": {"$sum": 1},
                        }
                    },
                ]
            )
            for group in groups:
                queue, status = (group["_id"].get(name) for name in ("queue", "status"))
                if isinstance(queue, str) and isinstance(status, str):  # else it is damaged
                    counts[queue][cast("MessageStatus", status)] = group["count"]
            return QueueStats(
                counts={name: dict(by_status) for name, by_status in counts.items()},
                oldest_due_at=_first(tables, "pending", "available_at"),
                oldest_claimed_at=_first(tables, "processing", "claimed_at"),
            )

        return await self._database.read(look)

    async def list_messages(
        self,
        *,
        status: MessageStatus | None,
        run_id: str | None,
        queue_name: str | None,
        after: str | None,
        limit: int,
    ) -> Sequence[Message]:
        about: dict[str, Any] = dict(_ALIVE)
        wanted = {"status": status, "run_id": run_id, "queue_name": queue_name}
        about |= {name: value for name, value in wanted.items() if value is not None}
        if after is not None:
            about["_id"] = {"$gt": after}
        if not storable(run_id, queue_name, after):
            return []

        def look(tables: Tables) -> list[Document]:
            cursor = tables[MESSAGES.collection].find(about)
            return list(cursor.sort([("_id", 1)]).limit(limit))

        return [MESSAGES.entity(one) for one in await self._database.read(look)]

    async def get_message(self, message_id: str) -> Message | None:
        found = await self._database.read(
            lambda tables: tables[MESSAGES.collection].find_one({"_id": message_id, **_ALIVE})
        )
        return None if found is None else MESSAGES.entity(found)

    async def retry(self, message_id: str) -> bool:
        def operation(transaction: Transaction) -> bool:
            found = transaction.get(MESSAGES.collection, message_id)
            if found is None:
                return False
            message, now = MESSAGES.entity(found), transaction.queue_now
            if is_unfinished(message):
                return False
            if (key := message.idempotency_key) is not None:
                others = transaction.find(MESSAGES.collection, {"held_key": key})
                if holder([MESSAGES.readable(one) for one in others], key) is not None:
                    return False
            again = replace(message, attempt=1, deliveries=0, available_at=now)
            put_message(transaction, pending_again(again, now))
            return True

        return await self._database.write(operation)

    async def delete(self, message_id: str) -> bool:
        def operation(transaction: Transaction) -> bool:
            found = transaction.get(MESSAGES.collection, message_id)
            if found is None:
                return False
            until = found.get("leased_until")
            if isinstance(until, datetime) and until > transaction.queue_now:
                return False
            transaction.drop(MESSAGES.collection, message_id)
            return True

        return await self._database.write(operation)


def _first(tables: Tables, status: str, name: str) -> datetime | None:
    about = {"status": status, name: {"$exists": True}, **_ALIVE}
    found = tables[MESSAGES.collection].find_one(about, {name: 1}, sort=[(name, 1)])
    value = None if found is None else found[name]
    return value if isinstance(value, datetime) else None
