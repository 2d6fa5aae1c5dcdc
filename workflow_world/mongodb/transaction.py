"""What one batch reads and is going to write: documents before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias, cast

from ..errors import BackendError, PayloadTooLargeError
from .client import Tables
from .documents import Document

Change: TypeAlias = dict[str, Any]
"""``c`` the collection, ``id``, and one of ``put`` (a whole document), ``set`` with ``unset`` (its
fields), or ``drop``."""
Order: TypeAlias = Sequence[tuple[str, int]]

STAMP: Final = "entry"
"""In every document: the number of the entry of the journal that wrote it last."""
GONE: Final = "gone_at"
"""A document that has it is deleted; it is kept so long that no late writer brings it back."""


_MOST: Final = (16 << 20) - (1 << 16)


def size_of(document: Mapping[str, Any]) -> int:
    """About how many bytes it has; not less."""
    total = 100
    for name, value in document.items():
        total += 30 + len(name)
        if isinstance(value, bytes):
            total += len(value)
        elif isinstance(value, str):
            total += 4 * len(value)
        elif isinstance(value, list):
            total += sum(40 + 4 * len(str(one)) for one in cast("list[object]", value))
    return total


@dataclass(slots=True)
class _Seen:
    """A document as the database has it, and as it is going to be; None: there is none."""

    before: Document | None
    now: Document | None
    new: bool = False


class Transaction:
    """Reads of one state of the database, together with what this transaction wrote. Nothing is
    written before the commit, which fails if anybody else has written meanwhile.

    Attributes:
        queue_now: by the queue's clock.
        topics: to be notified after the commit.
    """

    def __init__(self, tables: Tables, queue_now: datetime) -> None:
        self._tables = tables
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._undo: list[tuple[_Seen, Document | None]] = []
        self.queue_now = queue_now
        self.topics: list[str] = []

    def get(self, collection: str, key: str) -> Document | None:
        seen = self._seen.get((collection, key))
        if seen is None:
            (seen,) = self._load(collection, [key])
        return seen.now

    def read_ahead(self, wanted: Iterable[tuple[str, str]]) -> None:
        """What many operations are going to ``get``, with one request for each collection."""
        by_collection: dict[str, list[str]] = {}
        for collection, key in dict.fromkeys(wanted):
            if (collection, key) not in self._seen:
                by_collection.setdefault(collection, []).append(key)
        for collection, keys in by_collection.items():
            self._load(collection, keys)

    def find(
        self,
        collection: str,
        filters: Mapping[str, Any],
        *,
        order: Order = (),
        limit: int = 0,
    ) -> list[Document]:
        """What matches in the database, as it is now, and whatever else was written here in this
        collection: the caller looks again at what it gets."""
        changed = {
            key: seen.now
            for (where, key), seen in self._seen.items()
            if where == collection and seen.now is not seen.before
        }
        most = limit + len(changed) if limit else 0
        cursor = self._tables[collection].find({**filters, GONE: {"$exists": False}})
        if order:
            cursor = cursor.sort(list(order))
        found: list[Document] = []
        for document in cursor.limit(most):
            key = document["_id"]
            seen = self._seen.setdefault((collection, key), _Seen(document, document))
            if key not in changed and seen.now is not None:
                found.append(seen.now)
        return [*found, *(document for document in changed.values() if document is not None)]

    def insert(self, collection: str, document: Document) -> None:
        """A new document: nobody has to look for it first. Raises: BackendError."""
        place = collection, document["_id"]
        seen = self._seen.setdefault(place, _Seen(None, None, new=True))
        if seen.now is not None:
            raise BackendError(f"MongoDB: collection {collection} has {place[1]!r:.300} already")
        self._set(collection, document["_id"], document)

    def put(self, collection: str, document: Document) -> None:
        """Insert, or replace what is there."""
        self._set(collection, document["_id"], document)

    def change(self, collection: str, key: str, **values: Any) -> None:
        """Set fields of a document that is there; None takes a field away."""
        stored = self.get(collection, key)
        if stored is not None:
            merged = {**stored, **values}
            document = {name: value for name, value in merged.items() if value is not None}
            self._set(collection, key, document)

    def drop(self, collection: str, key: str) -> None:
        self._set(collection, key, None)

    def mark(self) -> tuple[int, int]:
        """For ``back_to``."""
        return len(self._undo), len(self.topics)

    def back_to(self, mark: tuple[int, int]) -> None:
        """Forget what was written since."""
        while len(self._undo) > mark[0]:
            seen, now = self._undo.pop()
            seen.now = now
        del self.topics[mark[1] :]

    def changes(self) -> list[Change]:
        """One for each document that is different now."""
        found: list[Change] = []
        for (collection, key), seen in self._seen.items():
            before, now = seen.before, seen.now
            change: Change = {"c": collection, "id": key}
            if now is before:
                continue
            if now is None:
                if before is None:
                    continue
                change["drop"] = True
            elif before is None:
                change["put"] = {name: value for name, value in now.items() if name != "_id"}
                if seen.new:
                    change["new"] = True
            else:
                changed = {
                    name: value
                    for name, value in now.items()
                    if name not in before or before[name] != value
                }
                unset = [name for name in before if name not in now and name != STAMP]
                if not changed and not unset:
                    continue
                change |= {"set": changed, "unset": unset}
            found.append(change)
        return found

    def _set(self, collection: str, key: str, document: Document | None) -> None:
        seen = self._seen.get((collection, key))
        if seen is None:
            (seen,) = self._load(collection, [key])
        if document is not None and (size := size_of(document)) > _MOST:
            raise PayloadTooLargeError(
                f"A document of {collection} would have {size} bytes, over the {_MOST} bytes that "
                "mongodb stores; nothing was written"
            )
        self._undo.append((seen, seen.now))
        seen.now = document

    def _load(self, collection: str, keys: list[str]) -> list[_Seen]:
        chosen: Any = keys[0] if len(keys) == 1 else {"$in": keys}
        stored = {
            document["_id"]: document for document in self._tables[collection].find({"_id": chosen})
        }
        found: list[_Seen] = []
        for key in keys:
            document = stored.get(key)
            alive = None if document is None or GONE in document else document
            seen = self._seen[collection, key] = _Seen(alive, alive)
            found.append(seen)
        return found
