"""What a batch on a server reads ahead: for whom, when, and what nobody may trust any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from workflow_world.errors import EntityConflictError
from workflow_world.sql.compiled import Read, Row, Session, Statement
from workflow_world.sql.lane import Job, Locks
from workflow_world.sql.remote import RemoteSession

HEAD, STEP = Statement("load run head", text("SELECT 1")), Statement("load step", text("SELECT 2"))
LOCK = Statement("lock runs", text("SELECT 3"))


class Recording(RemoteSession):
    """Answers each read with its number; ``trips`` are the names that were read together."""

    def __init__(self) -> None:
        super().__init__(None, sqlite.dialect(), lambda: datetime.now(UTC))  # type: ignore[arg-type]
        self.trips: list[list[str]] = []
        self.read = 0

    def _read_all(self, reads: Sequence[Read]) -> list[list[Row]]:
        if reads:
            self.trips.append([name_of(*read) for read in reads])
        return [[self._answer()] for _ in reads]

    def _read_last(self, reads: Sequence[Read]) -> list[list[Row]]:
        found = self._read_all(reads)
        self.trips[-1].append("the end")
        return found

    def _rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        self.trips.append([name_of(statement, values)])
        return [self._answer()]

    def _answer(self) -> Row:
        self.read += 1
        return (self.read,)


def name_of(statement: Statement, values: Mapping[str, Any]) -> str:
    return " ".join([statement.before.removeprefix("before "), *map(str, values.values())])


def about(run_id: str) -> Job[Any]:
    """Reads its run's head and a step, and returns both answers."""
    head: Read = (HEAD, {"run_id": run_id})
    step: Read = (STEP, {"run_id": run_id, "step_id": "s"})

    def operation(session: Session) -> list[Row | None]:
        session.read_ahead([head, step])
        return [session.one(one, **values) for one, values in (head, step)]

    locks = Locks(runs=(run_id,), ahead=lambda _: [head])
    return Job(operation, locks=locks)


def placeless() -> Job[Any]:
    return Job(lambda session: None)


def played(session: Recording, jobs: list[Job[Any]], locks: Sequence[Read] = ()) -> None:
    seen = []
    for job in session.ahead_of(jobs, locks):
        session.run_job(job)
        seen.append(job)
    assert seen == jobs


def test_all_that_is_read_of_the_runs_comes_at_once_behind_the_locks() -> None:
    session = Recording()
    played(session, [about("a"), about("b")], [(LOCK, {"ids": "a b"})])
    assert session.trips == [
        ["lock runs a b", "load run head a", "load run head b"],
        ["load step a s"],
        ["load step b s"],
    ]


def test_the_second_about_a_run_finds_what_the_first_has_written() -> None:
    session = Recording()
    first, second = about("a"), about("a")
    played(session, [first, second])
    assert session.trips == [
        ["load run head a"],
        ["load step a s"],
        ["load run head a", "load step a s"],
    ]
    assert (first.result, second.result) == ([(1,), (2,)], [(3,), (4,)])


def test_nothing_is_read_ahead_of_what_may_change_any_run() -> None:
    session = Recording()
    played(session, [about("a"), placeless(), about("b")], [(LOCK, {"ids": "a b"})])
    assert session.trips == [
        ["lock runs a b", "load run head a"],
        ["load step a s"],
        ["load run head b"],
        ["load step b s"],
    ]


def test_the_locks_come_first_also_where_nothing_is_read() -> None:
    session = Recording()
    played(session, [placeless(), about("a")], [(LOCK, {"ids": "a"})])
    assert session.trips == [["lock runs a"], ["load run head a"], ["load step a s"]]


def test_what_was_read_ahead_answers_once() -> None:
    session = Recording()
    session.read_ahead([(HEAD, {"run_id": "a"})])
    assert [session.one(HEAD, run_id="a") for _ in range(2)] == [(1,), (2,)]


def test_what_another_job_left_unread_is_forgotten() -> None:
    session = Recording()
    left = Job(lambda session: None, locks=about("a").locks)
    later = about("a")
    played(session, [left, later])
    assert later.result == [(2,), (3,)]


# --- jobs that only read -----------------------------------------------------------------


def looking(*reads: Read) -> Job[Any]:
    """Makes these reads one after the other, and returns the answers."""
    return Job(lambda session: [session.one(one, **values) for one, values in reads])


def head(run_id: str) -> Read:
    return HEAD, {"run_id": run_id}


def step(run_id: str) -> Read:
    return STEP, {"run_id": run_id, "step_id": "s"}


def test_what_they_read_next_is_read_for_all_of_them() -> None:
    session = Recording()
    jobs = [looking(head("a")), looking(head("b"), step("b")), looking(head("c"), step("c"))]
    session.run_reads(jobs)
    assert session.trips == [
        ["load run head a", "load run head b", "load run head c"],
        ["load step b s", "load step c s"],
    ]
    assert [job.result for job in jobs] == [[(1,)], [(2,), (4,)], [(3,), (5,)]]


def test_reads_that_are_known_to_come_are_one_round_trip() -> None:
    session = Recording()
    jobs = [about("a"), about("b")]
    session.run_reads(jobs)
    assert session.trips == [
        ["load run head a", "load step a s", "load run head b", "load step b s"]
    ]
    assert [job.result for job in jobs] == [[(1,), (2,)], [(3,), (4,)]]


def test_a_lone_one_is_run_once() -> None:
    session, runs = Recording(), list[Row | None]()
    session.run_reads([Job(lambda session: runs.append(session.one(HEAD, run_id="a")))])
    assert runs == [(1,)]
    session.run_reads([])
    assert session.trips == [["load run head a"]]


def test_one_that_reads_the_same_twice_ends() -> None:
    session = Recording()
    jobs = [looking(head("a"), head("a")), looking(head("b"))]
    session.run_reads(jobs)
    assert [job.result for job in jobs] == [[(1,), (1,)], [(2,)]]


def test_one_that_asks_for_the_time_reads_the_same_again() -> None:
    session = Recording()
    session.now = lambda: datetime.now(UTC)

    def due(session: Session) -> object:
        now = session.now()
        return session.one(HEAD, run_id=now), session.one(STEP, run_id=now, step_id="s")

    jobs = [Job(due), looking(head("b"))]
    session.run_reads(jobs)
    assert [len(trip) for trip in session.trips] == [2, 1]


def test_one_that_never_asks_for_the_same_ends() -> None:
    """Such as one that goes by what others of this process have changed meanwhile."""
    session, asked = Recording(), 0

    def changing(session: Session) -> object:
        nonlocal asked
        asked += 1
        return session.one(HEAD, run_id=asked)

    jobs = [Job(changing), looking(head("b"))]
    session.run_reads(jobs)
    assert jobs[0].result == (session.read,)
    assert jobs[1].result == [(2,)]


def test_one_that_is_refused_leaves_the_others_alone() -> None:
    def refused(session: Session) -> None:
        session.one(HEAD, run_id="a")
        raise EntityConflictError("no")

    session = Recording()
    jobs = [Job(refused), looking(head("b"))]
    session.run_reads(jobs)
    assert isinstance(jobs[0].error, EntityConflictError)
    assert (jobs[1].error, jobs[1].result) == (None, [(2,)])


def test_what_reads_once_is_one_round_trip_with_the_end() -> None:
    session = Recording()
    jobs = [looking(head("a")), about("b"), placeless()]
    assert session.run_reads_once(jobs) == []
    assert session.trips == [["load run head a", "load run head b", "load step b s", "the end"]]
    assert [job.result for job in jobs] == [[(1,)], [(2,), (3,)], None]


def test_what_reads_on_is_left() -> None:
    session = Recording()
    jobs = [looking(head("a")), looking(head("b"), step("b"))]
    assert session.run_reads_once(jobs) == jobs[1:]
    assert jobs[0].result == [(1,)]


def test_what_reads_nothing_takes_no_round_trip() -> None:
    session = Recording()
    assert session.run_reads_once([placeless()]) == []
    assert session.trips == []
