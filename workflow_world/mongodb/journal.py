"""The journal: one document, whose replacement is the commit of a batch (design 8).

A commit needs no transaction of the server, so it is the same on one server and on a replica set.

1. What a batch writes, any number of documents, becomes an entry of the journal by one conditional
   update: only if the last entry is still the one that the batch has read behind. That is the
   commit. So batches are one after the other, whoever makes them, and each saw all before it.
2. The changes are applied to the documents. Each document has the number of the entry that wrote
   it last, and a change is only applied to an older one: so it may be applied twice, by several
   processes at once, or late by one that was stopped meanwhile.
3. The entry is marked as applied.

Whoever finds an entry that is not marked applies it before it reads anything else. A process that
dies leaves nothing, or all of it, and nobody waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from pymongo.errors import DuplicateKeyError

from .. import faults
from ..clock import SYSTEM_CLOCK
from ..errors import BackendError
from ..ids import new_ulid
from .client import Tables, Unreached, translated
from .documents import CORRUPT, Document
from .transaction import GONE, STAMP, Change, size_of

logger = logging.getLogger("workflow_world.mongodb")

META: Final = "meta"
KEY: Final = "journal"
UNKNOWN_OUTCOME: Final = "UNKNOWN_OUTCOME"

_MOST_INLINE: Final = 1 << 20
_MOST_TOGETHER: Final = 6 << 20
"""Bytes of one request, or of one part: a document has 16 MiB at most."""
_MOST_AT_ONCE: Final = 1000
"""Changes of one request."""
_REMEMBERED: Final = 200
"""So many of the last entries' tokens are kept, for who does not know whether its own was one."""
_PATIENCE_S: Final = 5.0
_DUPLICATE: Final = 11000
_ENDED: Final = frozenset({91, 189, 10107, 11600, 11602, 13435, 13436})
"""Codes of a member that is the primary no more, or ends."""

UNIQUE: Final[Mapping[str, Sequence[str]]] = {
    "runs": (),
    "steps": (),
    "events": ("once", "resumed"),
    "hooks": ("token",),
    "queue_messages": ("held_key",),
    "stream_chunks": (),
}
"""The fields, beside the key, that no two documents of a collection have in common."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The last entry of the journal."""

    number: int
    applied: bool
    token: str
    at: datetime
    tokens: Sequence[str] = ()
    changes: Sequence[Change] = ()
    in_parts: int = 0


@dataclass(slots=True)
class Journal:
    """For any thread, but ``known`` and ``commit`` for one at a time."""

    tables: Tables
    _last: Entry | None = field(default=None, init=False)

    def create(self, now: datetime) -> None:
        """Where there is none yet."""
        empty: Document = {
            "number": 0,
            "applied": 0,
            "token": "",
            "at": now,
            "tokens": [],
            "changes": [],
            "parts": 0,
        }
        with translated(), contextlib.suppress(DuplicateKeyError):  # another process was faster
            self.tables[META].update_one({"_id": KEY}, {"$setOnInsert": empty}, upsert=True)

    def forget(self) -> None:
        """Somebody else has written, or may have."""
        self._last = None

    def known(self) -> Entry:
        """The last entry, as far as this process knows; applied. A commit behind it tells whether
        it was the last indeed."""
        if self._last is None:
            self._last = self.settled()
        return self._last

    def settled(self) -> Entry:
        """The last entry; when this returns all of it is applied."""
        with translated():
            brief = self.tables[META].find_one({"_id": KEY}, {"number": 1, "applied": 1})
            if brief is not None and brief.get("number") == brief.get("applied"):
                return self._entry(brief)
        return self._settled_with_tokens()

    def look(self) -> Entry:
        """The last entry, applied or not."""
        with translated():
            return self._entry(self.tables[META].find_one({"_id": KEY}))

    def commit(self, behind: Entry, changes: Sequence[Change]) -> bool:
        """Make an entry, and apply it.

        Returns: False when somebody else has made one since ``behind``; nothing is written then.
        Raises: BackendError; with code UNKNOWN_OUTCOME when it may be written all the same.
        """
        taken = self._taken(changes)
        if taken is not None:
            if self.settled().number == behind.number:
                raise BackendError(f"MongoDB: {taken} is there already")
            self._last = None
            return False
        token, at = new_ulid(), _now()
        # What gives a token up comes before what takes it.
        parts = list(_parts(sorted(changes, key=lambda change: "put" in change)))
        inline = len(parts) == 1 and _size(parts[0]) <= _MOST_INLINE
        with translated():
            if not inline:
                for number, part in enumerate(parts):
                    self.tables[META].insert_one(
                        {"_id": _part_key(token, number), "part_of": token, "at": at, "part": part}
                    )
        entry = Entry(
            number=behind.number + 1,
            applied=False,
            token=token,
            at=at,
            changes=parts[0] if inline else (),
            in_parts=0 if inline else len(parts),
        )
        faults.point("before commit")
        try:
            appended = self._append(entry)
        except Unreached:
            self._drop_parts(entry)
            raise
        if not appended:
            self._last = None
            self._drop_parts(entry)
            return False
        faults.point("after commit")
        try:
            self._finish(entry)
        except Exception as error:
            # It is committed: whoever comes next applies it first, or says why it cannot.
            logger.warning("What is committed is applied by whoever comes next: %s", error)
            self._last = None
        except BaseException:
            self._last = None
            raise
        else:
            self._last = entry
        return True

    def _taken(self, changes: Sequence[Change]) -> str | None:
        """What of the inserted documents is there already, if the last entry is still the last: an
        entry that cannot be applied would never go away."""
        for collection, unique in UNIQUE.items():
            of_it = [change for change in changes if change["c"] == collection]
            new = [change for change in of_it if "put" in change]
            if not new:
                continue
            mine = [change["id"] for change in of_it]
            unseen = [change["id"] for change in new if "new" in change]
            taken: list[dict[str, Any]] = [{"_id": {"$in": unseen}}] if unseen else []
            for name in unique:
                values = [change["put"][name] for change in new if name in change["put"]]
                if len({*values}) < len(values):
                    return f"one {name} of {collection}"
                if values:
                    taken.append({name: {"$in": values}, "_id": {"$nin": mine}})
            if not taken:
                continue
            with translated():
                found = self.tables[collection].find_one(
                    {"$or": taken, GONE: {"$exists": False}}, {"_id": 1}
                )
            if found is not None:
                return f"{found['_id']!r:.300} of {collection}"
        return None

    def _drop_parts(self, entry: Entry) -> None:
        """Of an entry that is none. What cannot be reached goes with the next ``prune``."""
        if entry.in_parts:
            with contextlib.suppress(BackendError), translated():
                self.tables[META].delete_many({"part_of": entry.token})

    def _append(self, entry: Entry) -> bool:
        """Raises: Unreached when it is no entry; BackendError when that is not known."""
        try:
            with translated():
                return self._replace(entry)
        except Unreached as error:
            if error.sent and self._was_appended(entry, error):
                return True
            raise

    def _replace(self, entry: Entry) -> bool:
        """Only if the last entry is the one before."""
        found = self.tables[META].update_one(
            {"_id": KEY, "number": entry.number - 1},
            {
                "$set": {
                    "number": entry.number,
                    "token": entry.token,
                    "at": entry.at,
                    "changes": list(entry.changes),
                    "parts": entry.in_parts,
                },
                "$push": {"tokens": {"$each": [entry.token], "$slice": -_REMEMBERED}},
            },
        )
        return found.matched_count == 1

    def _was_appended(self, entry: Entry, error: BackendError) -> bool:
        """The answer was lost. Nobody knows whether the request will still be carried out, so an
        empty entry takes its place: then it cannot be any more."""
        unknown = f"{error}; whether this is stored is not known"
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                found = self._settled_with_tokens()
                since = found.number - entry.number
                if since >= _REMEMBERED:
                    raise BackendError(unknown, code=UNKNOWN_OUTCOME) from error
                if since >= 0:
                    return entry.token in found.tokens
                empty = Entry(number=found.number + 1, applied=False, token=new_ulid(), at=_now())
                with translated():
                    replaced = self._replace(empty)
                if replaced:
                    return False
            except Unreached as again:
                if time.monotonic() > until:
                    raise BackendError(unknown, code=UNKNOWN_OUTCOME) from again
                time.sleep(0.05)
            except BackendError as again:
                raise BackendError(unknown, code=UNKNOWN_OUTCOME) from again

    def _settled_with_tokens(self) -> Entry:
        before = None
        with translated():
            while True:
                entry = self.look()
                if entry.applied:
                    return entry
                if self._lasts(entry):
                    self._finish(entry)
                    return entry
                if before == (entry.number, entry.token):
                    raise BackendError("The journal is damaged: look for its token", code=CORRUPT)
                before = entry.number, entry.token

    def _lasts(self, entry: Entry) -> bool:
        """Whether it is committed for good. What was read may be on one member only, which is the
        primary no more: then the others undo it, and nothing of it may be written to them."""
        found = self.tables[META].update_one(
            {"_id": KEY, "number": entry.number, "token": entry.token}, {"$inc": {"found": 1}}
        )
        return found.matched_count == 1

    def _finish(self, entry: Entry) -> None:
        """Apply it and say so; others may do the same at this moment."""
        with translated():
            for changes in self._changes(entry):
                self._apply(entry, changes)
            faults.point("before applied")
            self.tables[META].update_one(
                {"_id": KEY, "number": entry.number},
                {"$set": {"applied": entry.number, "changes": [], "parts": 0}},
            )
            if entry.in_parts:
                self.tables[META].delete_many({"part_of": entry.token})

    def _changes(self, entry: Entry) -> Iterator[Sequence[Change]]:
        yield entry.changes
        for number in range(entry.in_parts):
            part = self.tables[META].find_one({"_id": _part_key(entry.token, number)})
            if part is None:
                now = self._entry(self.tables[META].find_one({"_id": KEY}))
                if now.number == entry.number and not now.applied:
                    raise _damaged("is damaged: a part of its last entry is missing")
                return  # somebody else has applied all of it, and gone on
            yield part["part"]

    def _apply(self, entry: Entry, changes: Sequence[Change]) -> None:
        by_collection: dict[str, list[Change]] = {}
        for change in changes:
            by_collection.setdefault(change["c"], []).append(change)
        # The run last: who sees its end finds all that led to it.
        for collection in sorted(by_collection, key=lambda name: (name == "runs", name)):
            for some in _parts(by_collection[collection]):
                faults.point(f"before {collection}")
                self._update(entry, collection, some)

    def _update(self, entry: Entry, collection: str, changes: Sequence[Change]) -> None:
        answer: Mapping[str, Any] = self.tables.command(
            "update",
            collection,
            updates=[_statement(entry, change) for change in changes],
            ordered=False,
            writeConcern={"w": "majority", "j": True},
        )
        if (unsure := answer.get("writeConcernError")) is not None:
            # Not on most members, and so perhaps on none after a failover.
            code = cast("dict[str, Any]", unsure).get("code")
            raise Unreached(f"MongoDB cannot promise what was written (code {code})")
        for error in cast("list[dict[str, Any]]", answer.get("writeErrors", ())):
            number = cast("int", error["index"])
            key = cast("str", changes[number]["id"])
            if error.get("code") in _ENDED:
                raise Unreached(f"MongoDB's primary has changed (code {error['code']})")
            stored = None
            if error.get("code") == _DUPLICATE:
                stored = self.tables[collection].find_one({"_id": key}, {STAMP: 1})
            if stored is None or stored.get(STAMP, 0) < entry.number:
                # Whoever applied it before us has it; else the database holds what nobody wrote.
                raise BackendError(
                    f"MongoDB refuses the document of {collection} with _id {key!r:.300} (code "
                    f"{error.get('code')}), which was checked before: look for what else writes "
                    "to the database",
                    code=CORRUPT,
                )

    def _entry(self, stored: Document | None) -> Entry:
        if stored is None:
            raise _damaged("is missing")
        for name, kind in _KINDS.items():
            if name in stored and not isinstance(stored[name], kind):
                raise _damaged(f"is damaged: {name} is of another type")
        changes: list[object] = stored.get("changes", [])
        if not all(map(_is_change, changes)):
            raise _damaged("is damaged: its last entry cannot be read")
        if not stored.get("number", -1) >= stored.get("applied", -1) >= 0:
            raise _damaged("is damaged: its numbers contradict each other")
        return Entry(
            number=stored["number"],
            applied=stored["applied"] == stored["number"],
            token=stored.get("token", ""),
            at=stored.get("at", _now()),
            tokens=stored.get("tokens", ()),
            changes=stored.get("changes", ()),
            in_parts=stored.get("parts", 0),
        )


_KINDS: Final[Mapping[str, type]] = {
    "number": int,
    "applied": int,
    "token": str,
    "at": datetime,
    "tokens": list,
    "changes": list,
    "parts": int,
}


def _is_change(stored: object) -> bool:
    if not isinstance(stored, dict):
        return False
    change = cast("dict[str, object]", stored)
    what = change.get("put", change.get("set", {}))
    one = "drop" in change or "put" in change or {"set", "unset"} <= {*change}
    return {"c", "id"} <= {*change} and one and isinstance(what, dict)


def _damaged(reason: str) -> BackendError:
    return BackendError(
        f"The journal, the document of {META} with _id {KEY!r}, {reason}. Nothing is read or "
        "written without it: restore the database from a backup, all of its collections",
        code=CORRUPT,
    )


def _statement(entry: Entry, change: Change) -> dict[str, Any]:
    older = {"_id": change["id"], STAMP: {"$lt": entry.number}}
    if "put" in change:
        return {"q": older, "u": {**change["put"], STAMP: entry.number}, "upsert": True}
    if "drop" in change:
        return {"q": older, "u": {GONE: entry.at, STAMP: entry.number}}
    update: dict[str, Any] = {"$set": {**change["set"], STAMP: entry.number}}
    if change["unset"]:
        update["$unset"] = dict.fromkeys(change["unset"], "")
    return {"q": older, "u": update}


def _parts(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Each small enough for one request."""
    part: list[Change] = []
    size = 0
    for change in changes:
        more = _size([change])
        if part and (size + more > _MOST_TOGETHER or len(part) == _MOST_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(change)
        size += more
    yield part


def _size(changes: Sequence[Change]) -> int:
    """About how many bytes; not less."""
    return sum(
        size_of(change.get("put", {})) + size_of(change.get("set", {})) for change in changes
    )


def _part_key(token: str, number: int) -> str:
    return f"part\0{token}\0{number:06d}"


def _now() -> datetime:
    """For housekeeping only: when what is deleted may go for good."""
    return SYSTEM_CLOCK.now()
