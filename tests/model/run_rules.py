"""Rules about runs: every event that a caller may send, and pages of what is stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from workflow_world.core.entities import RunStatus
from workflow_world.core.resolve import ResolveData
from workflow_world.world import World

from .machine import TOKENS, Machine, creation, handles, payloads, run_ids, step_ids, versions
from .sides import Side

HOOKS: Final = ("hook_1", "hook_2")
WAITS: Final = ("wait_1", "wait_2")
LISTS: Final = ("runs", "steps", "events", "hooks", "waits", "correlation")

hook_ids, wait_ids = st.sampled_from(HOOKS), st.sampled_from(WAITS)
delays = st.sampled_from([-1.0, 0.0, 0.0005, 5.0, 600.0])


class RunRules(Machine):
    @rule(
        handle=handles,
        run_id=run_ids,
        payload=payloads,
        spec_version=versions,
        context=st.sampled_from([None, {"queueNamespace": "eu", "deep": {"n": None}}]),
    )
    def create_run(
        self, handle: int, run_id: str, payload: object, spec_version: int, context: Any
    ) -> None:
        data = {**creation(payload), "attributes": {"from": "creation"}}
        if context is not None:
            data["executionContext"] = context
        self.send(handle, run_id, "run_created", data=data, spec_version=spec_version)

    @rule(handle=handles, run_id=run_ids, resilient=st.booleans(), spec_version=versions)
    def start_run(self, handle: int, run_id: str, resilient: bool, spec_version: int) -> None:
        data = creation(b"resilient") if resilient else None
        self.send(handle, run_id, "run_started", data=data, spec_version=spec_version)

    @rule(handle=handles, run_id=run_ids, payload=payloads, fails=st.booleans())
    def end_run(self, handle: int, run_id: str, payload: object, fails: bool) -> None:
        if fails:
            data = {"error": payload, "errorCode": "USER_ERROR"}
            self.send(handle, run_id, "run_failed", data=data)
        else:
            self.send(handle, run_id, "run_completed", data={"output": payload})

    @rule(handle=handles, run_id=run_ids, reason=st.sampled_from([None, "enough"]))
    def cancel_run(self, handle: int, run_id: str, reason: str | None) -> None:
        self.both(handle, lambda side, world: world.runs.cancel(run_id, reason=reason))

    @rule(
        handle=handles,
        run_id=run_ids,
        changes=st.dictionaries(
            st.sampled_from(["k", "k", "l", "ü", "$reserved"]),
            st.sampled_from([None, "1", "2"]),
            min_size=1,
        ),
        by_step=st.booleans(),
        correlation_id=st.sampled_from(["attr_1", "attr_2"]),
    )
    def set_attributes(
        self,
        handle: int,
        run_id: str,
        changes: dict[str, str | None],
        by_step: bool,
        correlation_id: str,
    ) -> None:
        writer = {"type": "step", "stepId": "step_1", "attempt": 1} if by_step else None
        data = {
            "changes": [{"key": key, "value": value} for key, value in changes.items()],
            "writer": writer or {"type": "workflow"},
        }
        self.send(handle, run_id, "attr_set", None if by_step else correlation_id, data)

    # -- steps

    @rule(handle=handles, run_id=run_ids, step_id=step_ids, payload=payloads)
    def create_step(self, handle: int, run_id: str, step_id: str, payload: object) -> None:
        data = {"stepName": "add", "input": payload}
        self.send(handle, run_id, "step_created", step_id, data)

    @rule(handle=handles, run_id=run_ids, step_id=step_ids)
    def start_step(self, handle: int, run_id: str, step_id: str) -> None:
        self.send(handle, run_id, "step_started", step_id)

    @rule(handle=handles, run_id=run_ids, step_id=step_ids, delay=st.none() | delays)
    def retry_step(self, handle: int, run_id: str, step_id: str, delay: float | None) -> None:
        data: dict[str, Any] = {"error": b"again"}
        if delay is not None:
            data["retryAfter"] = self.clock.now() + timedelta(seconds=delay)
        self.send(handle, run_id, "step_retrying", step_id, data)

    @rule(handle=handles, run_id=run_ids, step_id=step_ids, payload=payloads, fails=st.booleans())
    def end_step(
        self, handle: int, run_id: str, step_id: str, payload: object, fails: bool
    ) -> None:
        if fails:
            self.send(handle, run_id, "step_failed", step_id, {"error": payload})
        else:
            self.send(handle, run_id, "step_completed", step_id, {"result": payload})

    # -- waits and hooks

    @rule(handle=handles, run_id=run_ids, wait_id=wait_ids, delay=delays)
    def sleep(self, handle: int, run_id: str, wait_id: str, delay: float) -> None:
        resume_at = self.clock.now() + timedelta(seconds=delay)
        self.send(handle, run_id, "wait_created", wait_id, {"resumeAt": resume_at})

    @rule(handle=handles, run_id=run_ids, wait_id=wait_ids)
    def wake(self, handle: int, run_id: str, wait_id: str) -> None:
        self.send(handle, run_id, "wait_completed", wait_id)

    @rule(
        handle=handles,
        run_id=run_ids,
        hook_id=hook_ids,
        token=st.sampled_from(TOKENS),
        more=st.sampled_from([{}, {"metadata": None}, {"metadata": b"m", "isWebhook": False}]),
    )
    def create_hook(
        self, handle: int, run_id: str, hook_id: str, token: str, more: dict[str, Any]
    ) -> None:
        self.send(handle, run_id, "hook_created", hook_id, {"token": token, **more})

    @rule(
        handle=handles,
        run_id=run_ids,
        hook_id=hook_ids,
        payload=payloads,
        resume_id=st.sampled_from([None, "resume_1", "resume_2", "01AN4Z07BY79KA1307SR9X4MV3"]),
        digest=st.sampled_from([None, "digest a", "digest b"]),
    )
    def resume_hook(
        self,
        handle: int,
        run_id: str,
        hook_id: str,
        payload: object,
        resume_id: str | None,
        digest: str | None,
    ) -> None:
        self.send(
            handle,
            run_id,
            "hook_received",
            hook_id,
            {"payload": payload},
            resume_id=resume_id,
            payload_digest=digest,
        )

    @rule(handle=handles, run_id=run_ids, hook_id=hook_ids)
    def dispose_hook(self, handle: int, run_id: str, hook_id: str) -> None:
        self.send(handle, run_id, "hook_disposed", hook_id)

    # -- reads that the invariants do not make

    @rule(
        handle=handles,
        kind=st.sampled_from(LISTS),
        run_id=run_ids,
        limit=st.integers(1, 3),
        order=st.sampled_from(["asc", "desc"]),
        resolve_data=st.sampled_from(["all", "none"]),
        status=st.sampled_from([(), ("running",), ("pending", "completed")]),
    )
    def walk_pages(
        self,
        handle: int,
        kind: str,
        run_id: str,
        limit: int,
        order: Any,
        resolve_data: ResolveData,
        status: tuple[RunStatus, ...],
    ) -> None:
        """The pages of one list, with their cursors."""
        more: dict[str, Any] = {"limit": limit, "sort_order": order}
        if kind != "waits":
            more["resolve_data"] = resolve_data

        async def walked(side: Side, world: World) -> Any:
            read: dict[str, Callable[..., Any]] = {
                "runs": lambda **kw: world.runs.list(status=status, **kw),
                "steps": lambda **kw: world.steps.list(run_id, **kw),
                "events": lambda **kw: world.events.list(run_id, **kw),
                "hooks": lambda **kw: world.hooks.list(**kw),
                "waits": lambda **kw: world.waits.list(**kw),
                "correlation": lambda **kw: world.events.list_by_correlation_id("step_1", **kw),
            }
            pages = [await read[kind](**more)]
            while pages[-1].has_more:
                pages.append(await read[kind](cursor=pages[-1].cursor, **more))
            return [(list(page.data), page.cursor, page.has_more) for page in pages]

        self.both(handle, walked)

    @rule(handle=handles, hook_id=hook_ids, token=st.sampled_from(TOKENS), step_id=step_ids)
    def look_up(self, handle: int, hook_id: str, token: str, step_id: str) -> None:
        self.both(handle, lambda side, world: world.hooks.get(hook_id))
        self.both(handle, lambda side, world: world.hooks.get_by_token(token))
        self.both(handle, lambda side, world: world.steps.get(None, step_id))
