"""Whether a delivery that writes still holds its lease: looked up where it writes."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from ..backend import Lease
from ..errors import LeaseLostError
from .compiled import Read, Session, Statement
from .tables import Tables


class Holding:
    def __init__(self, tables: Tables) -> None:
        m = tables.messages.c
        chosen = select(m.lease_token).where(m.message_id == bindparam("message_id"))
        self._token = Statement("find lease token", chosen)
        # Where rows are locked one by one, the lease stays as it is until the commit.
        self._kept = Statement("find lease token", chosen.with_for_update(read=True))

    def token(self, session: Session, message_id: str, *, locked: bool = True) -> str | None:
        """The lease token of a message; None: it is in no delivery.

        ``locked`` keeps it so, and needs a write transaction.
        """
        statement, values = self.reading(message_id, locked=locked)
        row = session.one(statement, **values)
        return None if row is None else row[0]

    def reading(self, message_id: str, *, locked: bool) -> Read:
        """What ``token`` reads."""
        return self._kept if locked else self._token, {"message_id": message_id}

    def kept(self, message_id: str | None) -> tuple[str, Read] | None:
        """``Locks.lease`` of an operation that checks the lease on this message."""
        return None if message_id is None else (message_id, self.reading(message_id, locked=True))

    def check(self, session: Session, lease: Lease | None) -> None:
        """Raises: LeaseLostError when there is a lease and it is not the message's any more."""
        if lease is not None and self.token(session, lease.message_id) != lease.token:
            raise LeaseLostError(lease.message_id)
