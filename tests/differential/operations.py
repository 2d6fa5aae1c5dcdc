"""Random operations on a World, as functions that any engine can be asked with.

They look for what engines may do differently below the same code: the order of text, its case and
its wildcards, large numbers, nulls, ties in times, and pages of all of that.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from model.sides import Ask, Side

from workflow_world import NewEvent, World
from workflow_world.backend import Retention
from workflow_world.core.delivery import Again, Done, Failed, Limits, Outcome, Released, settle
from workflow_world.testing import ManualClock

TEXTS: Final = (
    "a", "B", "b", "Z", "_", "%", "a%", "A", "ä", "Ä", "z\u0301", "\U0001f600", "\u05d0", "ﬀ",
    "it's", '"q"', "back\\slash", "semi;--", " lead", "trail ", "10", "9", "-1", "a_b", "a-b",
    "new\nline", "\t", "$where", "{}", "NULL", "e\u0301", "é", "x" * 400,
)  # fmt: skip
RUNS: Final = tuple(f"wrun_{text}" for text in ("a", "B", "b", "_", "a-b", "a_b", "Z9", "z10"))
PAYLOADS: Final = (
    None, b"", b"\x00\xff", "ü \U0001f600 \x00", 2**53, -(2**63), 2**70, 0.1, -0.0, 1e308, True,
    {"b": [None, {"a": b"x"}], "a": {}}, [], "x" * 3000,
)  # fmt: skip
VERSIONS: Final = (7, 7, 6, 5, 2, 1)
FLOW, STEP = "__wkf_workflow_", "__wkf_step_"
LIMITS: Final = Limits(max_delay_s=3600)
_PAGES: Final = 40


class Operations:
    """One random list of operations: the same seed gives the same list. ``leases`` of each side
    are remembered here, for what a claim gave is settled later."""

    def __init__(self, seed: int, clock: ManualClock) -> None:
        self._chance, self._clock = random.Random(seed), clock  # noqa: S311
        self._leases: dict[Side, list[Any]] = {}
        self._runs = [*RUNS]
        self._born = 0
        self._kinds: list[tuple[int, Callable[[], tuple[str, Ask]]]] = [
            (30, self._event),
            (8, self._queue),
            (6, self._claim),
            (6, self._settle),
            (4, self._stream),
            (2, self._upkeep),
            (14, self._pages),
            (8, self._look),
        ]

    def next(self) -> tuple[str, Ask]:
        """What is asked, for a person; and the question."""
        if self._chance.random() < 0.2:
            self._clock.advance(self._pick((0.001, 0.5, 5, 40, 4000)))
        if self._chance.random() < (0.3 if self._born < len(RUNS) else 0.03):
            return self._birth()
        weights = [weight for weight, _ in self._kinds]
        (kind,) = self._chance.choices([make for _, make in self._kinds], weights)
        return kind()

    def _pick(self, among: Any) -> Any:
        return self._chance.choice(among)

    @property
    def _run(self) -> str:
        return self._pick(self._runs)

    @property
    def _text(self) -> str:
        return self._pick(TEXTS)

    # -- writes

    def _birth(self) -> tuple[str, Ask]:
        """A run that begins; later ones take the place of the oldest, which may have ended."""
        generation, place = divmod(self._born, len(RUNS))
        run_id = self._runs[place] = RUNS[place] + "x" * generation
        self._born += 1
        data = {
            "deploymentId": self._text,
            "workflowName": self._text,
            "input": self._pick(PAYLOADS),
            "attributes": {"k": self._text, "ü": "$where"},
        }
        new = NewEvent(
            event_type="run_started", event_data=data, spec_version=self._pick(VERSIONS[:4])
        )
        return f"{run_id} {new}", lambda side, world: world.events.create(run_id, new)

    def _event(self) -> tuple[str, Ask]:
        soon = self._clock.now() + timedelta(seconds=self._pick((-1, 0, 0.0005, 5, 600)))
        payload, about = self._pick(PAYLOADS), self._pick(TEXTS[:8])
        attributes = dict([(self._text, self._text)] * self._chance.randrange(2))
        creation = {"deploymentId": self._text, "workflowName": self._text, "input": payload}
        kind, correlation_id, data = self._pick(
            [
                ("run_created", None, {**creation, "attributes": attributes}),
                ("run_created", None, {**creation, "executionContext": {self._text: payload}}),
                ("run_started", None, None),
                ("run_started", None, creation),
                ("step_created", about, {"stepName": self._text, "input": payload}),
                ("step_created", about, {"stepName": self._text, "input": payload}),
                ("step_started", about, None),
                ("step_retrying", about, {"error": payload, "retryAfter": soon}),
                ("step_completed", about, {"result": payload}),
                ("step_failed", about, {"error": payload}),
                ("hook_created", about, {"token": self._text, "metadata": payload}),
                ("hook_received", about, {"payload": payload}),
                ("hook_disposed", about, None),
                ("wait_created", about, {"resumeAt": soon}),
                ("wait_completed", about, None),
                ("attr_set", about, self._changes()),
                self._pick(
                    [
                        ("run_completed", None, {"output": payload}),
                        ("run_failed", None, {"error": payload, "errorCode": self._text}),
                        *[("run_started", None, None)] * 4,
                    ]
                ),
            ]
        )
        run_id = self._run
        new = NewEvent(
            event_type=kind,
            correlation_id=correlation_id,
            event_data=data,
            spec_version=self._pick(VERSIONS) if kind.startswith("run_") else 7,
        )
        resume = {"resume_id": self._text} if kind == "hook_received" else {}
        return f"{run_id} {new} {resume}", lambda side, world: world.events.create(
            run_id, new, **resume
        )

    def _changes(self) -> dict[str, Any]:
        changes = [{"key": self._text, "value": self._pick((None, self._text))}]
        return {"changes": changes, "writer": {"type": "workflow"}}

    def _queue(self) -> tuple[str, Ask]:
        run_id, step_id = self._run, self._pick(TEXTS[:8])
        key, delay = self._pick((None, None, self._text)), self._pick((None, None, -1.0, 0.5, 30.0))
        name, body = self._pick(
            [
                (FLOW + "greet", {"runId": run_id}),
                (FLOW + "Greet", {"runId": run_id, "hookId": "h"}),
                (STEP + "add", {"runId": run_id, "stepId": step_id, "stepName": "add"}),
            ]
        )

        async def queue(side: Side, world: World) -> Any:
            return side.label(
                await world.queue(name, body, idempotency_key=key, delay_seconds=delay)
            )

        return f"queue {name} {body} {key!r} {delay}", queue

    def _claim(self) -> tuple[str, Ask]:
        asked = {
            "limit": self._pick((1, 2, 50)),
            "lease": timedelta(seconds=self._pick((0.5, 30))),
            "serialize_runs": self._pick((True, False)),
            "prefixes": self._pick((None, (FLOW,), (STEP,), (FLOW + "g",))),
        }

        async def claim(side: Side, world: World) -> Any:
            await world.backend.open()
            found = (await world.backend.messages.claim(**asked)).messages
            self._leases.setdefault(side, []).extend(found)
            return found

        return f"claim {asked}", claim

    def _settle(self) -> tuple[str, Ask]:
        place = self._chance.randrange(4)
        outcome: Outcome = self._pick(
            [
                Done(),
                Again(delay_seconds=0.25, idempotency_key=self._pick((None, self._text))),
                Failed(message=self._text),
                Released(),
            ]
        )

        async def end(side: Side, world: World) -> Any:
            held = self._leases.get(side, [])[-1 - place :][:1]
            settlements = [
                (settle(one, outcome, now=self._clock.now(), spread=0.3, limits=LIMITS), None)
                for one in held
            ]
            await world.backend.open()
            return await world.backend.messages.settle(settlements) if held else None

        return f"settle {place} {outcome}", end

    def _stream(self) -> tuple[str, Ask]:
        run_id, name = self._run, self._text
        chunks = [self._pick((b"", b"\x00", b"x" * 5000)) for _ in range(self._chance.randrange(4))]
        if self._chance.random() < 0.2:
            return f"close {run_id} {name!r}", lambda side, world: world.streams.close(run_id, name)
        return (
            f"write {run_id} {name!r} {len(chunks)}",
            lambda side, world: world.streams.write_multi(run_id, name, chunks),
        )

    def _upkeep(self) -> tuple[str, Ask]:
        what = self._pick(("reap", "reap", "prune", "prune", "prune", "cancel"))
        keep = Retention(completed=timedelta(seconds=60), failed=timedelta(seconds=600))
        run_ids = [self._run for _ in range(3)]

        async def do(side: Side, world: World) -> Any:
            await world.backend.open()
            if what == "reap":
                return await world.backend.messages.reap()
            if what == "prune":
                return await world.backend.messages.prune(keep, limit=1000)
            return await world.runs.cancel(run_ids[0], reason="enough")

        return f"{what} {run_ids}", do

    # -- reads

    def _pages(self) -> tuple[str, Ask]:
        """All pages of one list, with their cursors."""
        run_id, status = self._run, self._pick(((), ("running",), ("pending", "completed")))
        more: dict[str, Any] = {"limit": self._pick((1, 3, 1000))}
        order = {"sort_order": self._pick(("asc", "desc"))}
        data = {"resolve_data": self._pick(("all", "none"))}
        by = self._pick(
            (
                {},
                {"workflow_name": self._text},
                {"deployment_id": self._text},
                {"attributes": {self._pick(("k", "ü")): self._text}},
                {"attributes": {"ü": "$where"}},
                {"created_after": self._clock.now() - timedelta(seconds=60)},
                {"created_before": self._clock.now()},
            )
        )
        about = self._pick(TEXTS[:8])
        kinds = self._pick(((), ("step_created",), ("run_created", "hook_received")))
        lists: dict[str, Callable[..., Any]] = {
            "runs": lambda world, **kw: world.runs.list(status=status, **by, **order, **data, **kw),
            "steps": lambda world, **kw: world.steps.list(run_id, **order, **data, **kw),
            "events": lambda world, **kw: world.events.list(
                run_id, event_types=kinds, **order, **data, **kw
            ),
            "hooks": lambda world, **kw: world.hooks.list(**order, **data, **kw),
            "waits": lambda world, **kw: world.waits.list(**order, **kw),
            "correlation": lambda world, **kw: world.events.list_by_correlation_id(
                about, **order, **data, **kw
            ),
        }
        which = self._pick([*lists])

        async def walk(side: Side, world: World) -> Any:
            pages = [await lists[which](world, **more)]
            while pages[-1].has_more and len(pages) < _PAGES:
                pages.append(await lists[which](world, cursor=pages[-1].cursor, **more))
            return [[list(page.data), page.cursor, page.has_more] for page in pages]

        return f"{which} {run_id} {status} {by} {about!r} {more} {order} {data}", walk

    def _look(self) -> tuple[str, Ask]:
        runs = [*self._runs, "wrun_none"]
        run_id, text, about = self._run, self._text, self._pick(TEXTS[:8])
        looks: dict[str, Ask] = {
            "run": lambda side, world: world.runs.get(run_id, resolve_data="none"),
            "runs": lambda side, world: world.runs.get_many(runs),
            "step": lambda side, world: world.steps.get(None, about),
            "hook": lambda side, world: world.hooks.get(about),
            "token": lambda side, world: world.hooks.get_by_token(text),
            "wait": lambda side, world: world.waits.get(run_id, about),
            "stats": lambda side, world: world.messages.stats(),
            "messages": messages,
            "streams": lambda side, world: world.streams.list(run_id),
            "info": lambda side, world: world.streams.get_info(run_id, text),
            "chunks": lambda side, world: world.streams.get_chunks(run_id, text, limit=2),
        }
        which = self._pick([*looks])
        return f"look at {which} {run_id} {text!r} {about!r}", looks[which]


async def messages(side: Side, world: World) -> Any:
    return [(await world.messages.list(status=status)).data for status in ("pending", "failed")]
