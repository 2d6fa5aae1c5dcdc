"""Sessions on servers: several reads at once, and writes that wait for the next answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, ClassVar, Final, TypeAlias

from sqlalchemy.engine import Dialect

from .compiled import Cursor, Proof, ProvingSession, Read, Row, Statement
from .lane import Job

_ROUNDS: Final = 4
"""Reads that many jobs make one after the other, at most, in as many round trips. What goes on for
longer, or never asks for the same again, has the server for itself."""

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

    def run_reads(self, jobs: Sequence[Job[Any]]) -> None:
        """Jobs that write nothing: what they read next is read for all of them at once. Nobody has
        said what that is, so each runs until it asks for something, and again with the rows."""
        trials = self._trials(jobs)
        for _ in range(_ROUNDS if len(jobs) > 1 else 0):
            trials = _going_on(trials)
            if not trials:
                return
            _learn(trials, self._read_all)
        for trial in trials:
            if len(jobs) == 1 or not trial.ends():
                trial.job.run(self)

    def run_reads_once(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        """``run_reads``, and the end of the transaction, in one round trip.

        Returns: those that read on, for a transaction of their own.
        """
        trials = _going_on(self._trials(jobs))
        if trials:
            _learn(trials, self._read_last)
        return [trial.job for trial in _going_on(trials)]

    def _trials(self, jobs: Sequence[Job[Any]]) -> list[_Trial]:
        now = self.now()  # for all: a read that has it in its values is the same one again
        return [_Trial(job, self, lambda: now) for job in jobs]

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

    def _read_last(self, reads: Sequence[Read]) -> list[list[Row]]:
        """The same, and the end of the transaction."""
        raise NotImplementedError


class _Wanted(Exception):
    """A job cannot go on without the rows of these."""

    def __init__(self, reads: Sequence[Read]) -> None:
        super().__init__()
        self.reads = reads


class _Trial(RemoteSession):
    """Runs a job on the rows that are known, and remembers what it asked for beyond them."""

    __slots__ = ("_session", "job", "wanted")

    def __init__(self, job: Job[Any], session: RemoteSession, now: Callable[[], datetime]) -> None:
        super().__init__(session._cursor, session._dialect, now)
        self.job, self._session = job, session
        self.wanted: Sequence[Read] = ()

    def ends(self) -> bool:
        try:
            self.job.run(self)
        except _Wanted as wanted:
            self.wanted = wanted.reads
            return False
        return True

    def listed(self, values: Iterable[str]) -> Any:
        return self._session.listed(values)

    def learn(self, read: Read, rows: list[Row]) -> None:
        self._ahead[_key(*read)] = rows

    def all(self, statement: Statement, **values: Any) -> list[Row]:
        # They stay: the job may run once more.
        found = self._ahead.get(_key(statement, values))
        return self._rows(statement, values) if found is None else found

    def _rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        raise _Wanted([(statement, values)])

    def _read_all(self, reads: Sequence[Read]) -> list[list[Row]]:
        if reads:
            raise _Wanted(reads)
        return []


def _going_on(trials: Sequence[_Trial]) -> list[_Trial]:
    """Those that do not end with what they know."""
    return [trial for trial in trials if not trial.ends()]


def _learn(trials: Sequence[_Trial], read_all: Callable[[Sequence[Read]], list[list[Row]]]) -> None:
    wanted = [(trial, read) for trial in trials for read in trial.wanted]
    for (trial, read), rows in zip(wanted, read_all([read for _, read in wanted]), strict=True):
        trial.learn(read, rows)


def _key(statement: Statement, values: Mapping[str, Any]) -> object:
    return statement, tuple(sorted(values.items()))
