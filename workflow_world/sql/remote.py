"""Sessions on servers: several reads at once, and writes that wait for the next answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, ClassVar, TypeAlias

from sqlalchemy.engine import Dialect

from .compiled import Cursor, Proof, ProvingSession, Read, Row, Statement
from .lane import Job

_Known: TypeAlias = dict[object, list[Row]]


class RemoteSession(ProvingSession):
    """What was read ahead is there for whoever asks for it, once, until something is written."""

    __slots__ = ("_ahead", "_of_jobs")
    is_remote: ClassVar[bool] = True

    def __init__(self, cursor: Cursor, dialect: Dialect, now: Callable[[], datetime]) -> None:
        super().__init__(cursor, dialect, now)
        self._ahead: _Known = {}
        self._of_jobs: dict[int, _Known] = {}

    def flush(self) -> None:
        """Send what waits. Raises: the error of the first statement that failed."""
        raise NotImplementedError

    def read_ahead(self, reads: Sequence[Read]) -> None:
        missing = [read for read in reads if _key(*read) not in self._ahead]
        for read, rows in zip(missing, self._read_all(missing), strict=True):
            self._ahead[_key(*read)] = rows

    def ahead_of(self, jobs: Sequence[Job[Any]], locks: Sequence[Read] = ()) -> Iterator[Job[Any]]:
        """The jobs in turn, for ``run_job``. The locks come first; then what the jobs are going to
        read of their runs is read for several at once, up to a job that may change any run."""
        for has_place, group in groupby(jobs, key=lambda job: bool(job.locks.place)):
            part = list(group)
            if has_place:
                self._read_for(part, locks)
            else:
                self._read_all(locks)
            yield from part
            locks = ()

    def undone(self, proof: Proof | None) -> None:
        """All since ``proof`` was the proof is undone."""
        self._ahead.clear()
        self.proof = proof

    def run_job(self, job: Job[Any]) -> None:
        self._ahead = self._of_jobs.pop(id(job), {})
        job.run(self)

    def _read_for(self, jobs: Sequence[Job[Any]], locks: Sequence[Read]) -> None:
        """Of several about the same only for the first: the others find what it has written."""
        before, wanted = set[str](), list[tuple[int, Read]]()
        leases = list[tuple[str, int, Read]]()
        for job in jobs:
            about = job.locks
            if about.ahead is not None and before.isdisjoint(about.subjects):
                wanted.extend((id(job), read) for read in about.ahead(self))
            if about.lease is not None and about.lease[0] not in before:
                leases.append((about.lease[0], id(job), about.lease[1]))
            before.update(about.subjects)
        # Those lock rows: last, and in an order that is the same for all.
        leases.sort(key=lambda one: one[0])
        wanted.extend((job_id, read) for _, job_id, read in leases)
        found = self._read_all([*locks, *(read for _, read in wanted)])[len(locks) :]
        self._of_jobs.clear()
        for (job_id, read), rows in zip(wanted, found, strict=True):
            self._of_jobs.setdefault(job_id, {})[_key(*read)] = rows

    def one(self, statement: Statement, **values: Any) -> Row | None:
        rows = self.all(statement, **values)
        return rows[0] if rows else None

    def all(self, statement: Statement, **values: Any) -> list[Row]:
        if self._ahead and (found := self._ahead.pop(_key(statement, values), None)) is not None:
            return found
        return self._rows(statement, values)

    def _read_all(self, reads: Sequence[Read]) -> list[list[Row]]:
        """In one round trip."""
        raise NotImplementedError


def _key(statement: Statement, values: Mapping[str, Any]) -> object:
    return statement, tuple(sorted(values.items()))
