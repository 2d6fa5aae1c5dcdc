"""What must hold once nothing fails any more; each method returns what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

from workflow_world import MessageNotFoundError, RunNotFoundError, World
from workflow_world.check import check
from workflow_world.core.delivery import EXHAUSTED_CODE
from workflow_world.core.entities import Event, Run

from .book import Book
from .clock import SimulatedClock
from .flow import STREAM
from .plan import Plan, RunPlan


class Verdict:
    """``world`` is one that no fault reaches."""

    def __init__(self, world: World, clock: SimulatedClock, book: Book, plan: Plan) -> None:
        self._world, self._clock, self._book, self._plan = world, clock, book, plan

    async def is_quiet(self) -> bool:
        """No message is left, and every run has ended or waits for a hook that nobody resumes."""
        stats = await self._world.messages.stats()
        unfinished = ("pending", "processing")
        if any(count.get(one) for count in stats.counts.values() for one in unfinished):
            return False
        for plan in self._plan.runs:
            run = await self._world.runs.get(plan.run_id)
            if not run.is_final and not await self._waits(plan):
                return False
        return True

    async def of_runs(self) -> list[str]:
        """Every run ended as it had to, or says what it waits for; messages were delivered."""
        wrong: list[str] = []
        for plan in self._plan.runs:
            try:
                run = await self._world.runs.get(plan.run_id)
            except RunNotFoundError:
                wrong.append(f"{plan.run_id} is lost")
                continue
            if run.is_final:
                wrong += self._end(plan, run)
            elif not await self._waits(plan):
                wrong.append(f"{plan.run_id} is stuck as {run.status}")
            wrong += await self._resumes(plan.run_id)
        for name, message_id in self._book.pings.items():
            status = await self._status(message_id)
            if status not in ("completed", "failed", "pruned") or not self._book.deliveries[name]:
                wrong.append(f"message {name} is {status}")
            wrong += self._pace(name)
        wrong += await self._tokens()
        if len(self._book.pings) != len(self._plan.pings):
            wrong.append("a message was never accepted")
        return wrong

    async def of_streams(self) -> list[str]:
        """What was acknowledged is there, once and in order; readers saw what is there."""
        wrong: list[str] = []
        for plan in self._plan.runs:
            run_id = plan.run_id
            page = await self._world.streams.get_chunks(run_id, STREAM, limit=1000)
            stored = [chunk.data for chunk in page.data]
            if [chunk.index for chunk in page.data] != [*range(len(stored))]:
                wrong.append(f"the stream of {run_id} is not dense")
            for chunks in self._book.written[run_id]:
                places = [
                    place
                    for place in range(len(stored))
                    if stored[place : place + len(chunks)] == chunks
                ]
                if not places:
                    wrong.append(f"the stream of {run_id} lost {chunks}")
            if self._book.read.get(run_id, stored) != stored:
                wrong.append(f"a reader of {run_id} saw {self._book.read[run_id]}, not {stored}")
        return wrong

    async def of_logs(self, acknowledged: Iterable[Event]) -> list[str]:
        """Each event is where it was said to be; each execution of a step has its start."""
        wrong, logs = list[str](), dict[str, Sequence[Event]]()
        for plan in self._plan.runs:
            logs[plan.run_id] = (await self._world.events.list(plan.run_id, limit=1000)).data
        for event in acknowledged:
            log = logs[event.run_id]
            if log[event.position - 1 : event.position] != [event]:
                wrong.append(f"{event.run_id} lost {event.event_type} at {event.position}")
        starts = Counter(
            event.correlation_id
            for log in logs.values()
            for event in log
            if event.event_type == "step_started"
        )
        wrong += [
            f"{step_id} was executed {count} times, and started {starts[step_id]} times"
            for step_id, count in self._book.executions.items()
            if count > starts[step_id]
        ]
        for plan in self._plan.runs:
            run = await self._world.runs.get(plan.run_id)
            if run.status == "completed":
                wrong += self._attributes(plan, run, starts)
        return wrong

    async def of_check(self) -> list[str]:
        """``workflow-world check`` finds nothing, also not when all graces are over."""
        self._clock.offset_s += timedelta(hours=1).total_seconds()
        report = await check(self._world)
        return [f"check: {finding}" for finding in report.findings]

    async def end_streams(self) -> None:
        """Close what its run did not."""
        for plan in self._plan.runs:
            await self._world.streams.close(plan.run_id, STREAM)

    async def _status(self, message_id: str) -> str:
        try:
            return (await self._world.messages.get(message_id)).status
        except MessageNotFoundError:
            return "pruned"

    async def _tokens(self) -> list[str]:
        """A token has one holder; who did not get it was told of one that had it."""
        wrong, held, given = list[str](), dict[str, str](), set[tuple[str, str]]()
        refused: list[tuple[str, str, str]] = []
        for plan in self._plan.runs:
            for hook in (await self._world.hooks.list(plan.run_id)).data:
                if hook.token in held:
                    wrong.append(f"{plan.run_id} and {held[hook.token]} both hold {hook.token}")
                held[hook.token] = plan.run_id
            kinds = ("hook_created", "hook_conflict")
            log = await self._world.events.list(plan.run_id, event_types=kinds, limit=1000)
            for event in log.data:
                data = event.event_data or {}
                if event.event_type == "hook_created":
                    given.add((plan.run_id, data["token"]))
                else:
                    refused.append((plan.run_id, data["token"], data["conflictingRunId"]))
        return wrong + [
            f"{run_id} was refused {token} for {holder}, which never had it"
            for run_id, token, holder in refused
            if (holder, token) not in given
        ]

    async def _waits(self, plan: RunPlan) -> bool:
        """Whether a hook that nobody resumes is all that it waits for."""
        hooks = [hook.hook_id for hook in (await self._world.hooks.list(plan.run_id)).data]
        to_come = [one for one in hooks if plan.hooks[one] is not None]
        resumed = all((plan.run_id, one) in self._book.resumed for one in to_come)
        return resumed and len(hooks) > len(to_come)

    def _end(self, plan: RunPlan, run: Run) -> list[str]:
        run_id, wrong = plan.run_id, list[str]()
        if self._book.ended.get(run_id, run.status) != run.status:
            wrong.append(f"{run_id} is {run.status}, and was {self._book.ended[run_id]}")
        if (run.status == "cancelled") < (run_id in self._book.cancelled):
            wrong.append(f"{run_id} is {run.status}, but was cancelled")
        if run.status == "completed":
            expected = [part["id"] for part in plan.parts if part["kind"] == "step"]
            if run.output != expected or plan.fatal:
                wrong.append(f"{run_id} completed with {run.output}, not {expected}")
            idle = [one for one in expected if not self._book.executions[one]]
            if idle:
                wrong.append(f"{run_id} completed without executing {idle}")
        if run.status == "failed" and not plan.fatal and run.error_code != EXHAUSTED_CODE:
            wrong.append(f"{run_id} failed with {run.error}")
        return wrong

    def _attributes(self, plan: RunPlan, run: Run, starts: Mapping[str | None, int]) -> list[str]:
        """All that the program said is there, and of a step what one of its executions said."""
        expected = {part["id"] for part in plan.parts if part["kind"] == "attribute"}
        steps = {part["id"] for part in plan.parts if part.get("says")}
        found = run.attributes or {}
        wrong = {key: found.get(key) for key in expected if found.get(key) != "said"}
        wrong |= {
            key: found.get(key) for key in steps if not 1 <= int(found.get(key, 0)) <= starts[key]
        }
        if {*found} != expected | steps:
            wrong |= {key: found.get(key) for key in {*found} ^ (expected | steps)}
        return [f"{run.run_id} has the attributes {wrong}"] if wrong else []

    def _pace(self, name: str) -> list[str]:
        """What failed comes again, and not before its backoff is over."""
        times = self._book.deliveries[name]
        wrong = (
            [f"{name} skipped an attempt"] if sorted(times) != [*range(1, len(times) + 1)] else []
        )
        if "clock" in self._plan.chaos:
            return wrong
        for attempt, (first, second) in enumerate(pairwise(times[one] for one in sorted(times)), 1):
            if second - first < 0.79 * 2 ** (attempt - 1):
                wrong.append(f"{name} came again after {second - first} s")
        return wrong

    async def _resumes(self, run_id: str) -> list[str]:
        page = await self._world.events.list(run_id, event_types=("hook_received",), limit=1000)
        found = [event.correlation_id for event in page.data]
        resumed = [hook_id for owner, hook_id in self._book.resumed if owner == run_id]
        wrong = [f"the resume of {one} is lost" for one in resumed if one not in found]
        if len({*found}) != len(found):
            wrong.append(f"a hook of {run_id} was resumed twice: {found}")
        return wrong
