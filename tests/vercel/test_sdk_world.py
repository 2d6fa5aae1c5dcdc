"""``SdkWorld``: the SDK's names, arguments and answers over our World."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from vercel.workflow._internal import runtime
from vercel.workflow._internal import world as w

from workflow_world import QueueContinuation, Wait, World, create_world
from workflow_world.codec import decode
from workflow_world.vercel import SdkWorld

pytestmark = pytest.mark.anyio

RUN = "wrun_1"
QUEUE = "__wkf_workflow_wf"


def created(name: str = "wf") -> w.RunCreatedEvent:
    return w.RunCreatedEventData(deployment_id="dpl", workflow_name=name, input=b"in").into_event()


async def test_every_method_of_the_sdk_is_ours() -> None:
    """A method that the SDK gives a default could be missed silently."""
    for name, _ in inspect.getmembers(w.World, inspect.isfunction):
        assert name in vars(SdkWorld), name
    flat = {"runs_list", "runs_get_many", "steps_list", "events_get", "hooks_get", "hooks_list"}
    flat |= {"events_list_by_correlation_id", "waits_list", "wait_for_terminal", "aclose"}
    assert flat <= vars(SdkWorld).keys()


async def test_where_it_runs(sdk: SdkWorld) -> None:
    """B197."""
    assert await sdk.get_deployment_id()
    assert sdk.get_environment() is None
    assert await sdk.run_key(RUN) is None
    assert sdk.write_manifest({}) is None
    named = SdkWorld(create_world("memory:", deployment_id="dpl_7", environment="preview"))
    assert (await named.get_deployment_id(), named.get_environment()) == ("dpl_7", "preview")


async def test_keys_come_from_the_option() -> None:
    async def key(run_id: str, *, deployment_id: str | None = None) -> bytes:
        return f"{run_id} {deployment_id}".encode()

    sdk = SdkWorld(create_world("memory:", run_key=key))
    assert await sdk.run_key(RUN, deployment_id="d") == b"wrun_1 d"


class TestRowsAndLists:
    async def test_runs(self, sdk: SdkWorld) -> None:
        for number in range(5):
            result = await sdk.events_create(f"wrun_{number}", created(f"wf{number % 2}"))
            assert isinstance(result.event, w.RunCreatedEvent)
            assert isinstance(result.run, w.NonFinalWorkflowRun)
        minted = await sdk.events_create(None, created("minted"))
        assert minted.run is not None
        assert minted.run.run_id.startswith("wrun_")
        page = await sdk.runs_list(
            pagination=w.PaginationOptions(limit=2, sort_order="asc"), workflow_name="wf0"
        )
        assert ([run.run_id for run in page.data], page.has_more) == (["wrun_0", "wrun_2"], True)
        page = await sdk.runs_list(
            pagination=w.PaginationOptions(limit=2, sort_order="asc", cursor=page.cursor),
            workflow_name="wf0",
        )
        assert ([run.run_id for run in page.data], page.has_more) == (["wrun_4"], False)
        newest_first = await sdk.runs_list()
        assert newest_first.data[-1].run_id == "wrun_0"
        many = await sdk.runs_get_many(["wrun_3", "wrun_x", "wrun_1"])
        assert [run and run.run_id for run in many] == ["wrun_3", None, "wrun_1"]

    async def test_steps_hooks_and_waits(self, sdk: SdkWorld) -> None:
        await sdk.events_create(RUN, created())
        step = w.StepCreatedEventData(step_name="s", input=b"i").into_event("step_1")
        assert (await sdk.events_create(RUN, step)).step is not None
        started = await sdk.events_create(RUN, w.StepStartedEvent(correlation_id="step_1"))
        assert started.step is not None
        assert (started.step.attempt, started.step.input) == (1, b"i")
        assert await sdk.steps_get(RUN, "step_1") == started.step
        assert (await sdk.steps_list(RUN)).data == [started.step]

        hook = w.HookCreatedEventData(token="t").into_event("hook_1")  # noqa: S106
        made = (await sdk.events_create(RUN, hook)).hook
        assert made == await sdk.hooks_get("hook_1") == await sdk.hooks_get_by_token("t")
        assert (await sdk.hooks_list(RUN)).data == (await sdk.hooks_list()).data == [made]
        rival = await sdk.events_create(
            RUN,
            w.HookCreatedEventData(token="t").into_event("hook_2"),  # noqa: S106
        )
        assert isinstance(rival.event, w.HookConflictEvent)
        assert (rival.hook, rival.event.event_data.conflicting_run_id) == (None, RUN)

        resume_at = datetime.now(UTC) + timedelta(hours=1)
        wait = w.WaitCreatedEventData(resume_at=resume_at).into_event("wait_1")
        assert isinstance((await sdk.events_create(RUN, wait)).wait, Wait)
        assert [wait.wait_id for wait in (await sdk.waits_list(RUN)).data] == ["wait_1"]

    async def test_events(self, sdk: SdkWorld) -> None:
        await sdk.events_create(RUN, created())
        for number in range(5):
            step = w.StepCreatedEventData(step_name="s", input=b"").into_event(f"step_{number}")
            await sdk.events_create(RUN, step)
        seen: list[w.Event] = []
        cursor = None
        while True:
            options = w.PaginationOptions(limit=2, cursor=cursor, sort_order="asc")
            page = await sdk.events_list(RUN, pagination=options)
            seen += page.data
            cursor = page.cursor
            if not page.has_more:
                break
        everything = await sdk.events_list(RUN)
        assert seen == everything.data
        assert [event.event_type for event in seen] == ["run_created"] + ["step_created"] * 5
        # The SDK keeps the last page's cursor to ask for what came after.
        await sdk.events_create(RUN, w.StepStartedEvent(correlation_id="step_3"))
        after = await sdk.events_list(RUN, pagination=w.PaginationOptions(cursor=cursor))
        assert [event.event_type for event in after.data] == ["step_started"]
        of_step = await sdk.events_list_by_correlation_id("step_3", run_id=RUN)
        assert of_step.data == [everything.data[4], after.data[0]]
        props = seen[2].server_props
        assert props is not None
        assert await sdk.events_get(RUN, props.event_id) == seen[2]
        assert (await sdk.events_list("wrun_unknown")).data == []

    async def test_a_resume_happens_once(self, sdk: SdkWorld) -> None:
        await sdk.events_create(RUN, created())
        hook = w.HookCreatedEventData(token="t").into_event("hook_1")  # noqa: S106
        await sdk.events_create(RUN, hook)
        event = w.HookReceivedEventData(payload=b"p").into_event("hook_1")
        event._queue_input = w.HookResumeInput(
            resume_id="resume-1",
            hook_id="hook_1",
            token="t",  # noqa: S106
            payload=b"p",
            payload_digest="d1",
        )
        first = await sdk.events_create(RUN, event)
        second = await sdk.events_create(RUN, event)
        assert first.event == second.event
        [_, _, received] = (await sdk.events_list(RUN)).data
        assert received.server_props is not None
        assert received.server_props.resume_id == "resume-1"
        event._queue_input.payload_digest = "d2"
        with pytest.raises(w.HookResumeConflictError):
            await sdk.events_create(RUN, event)

    async def test_waiting_for_the_end(self, sdk: SdkWorld) -> None:
        await sdk.events_create(RUN, created())
        with pytest.raises(TimeoutError):
            await sdk.wait_for_terminal(RUN, timeout=0)
        await sdk.events_create(RUN, w.RunCompletedEventData(output=b"out").into_event())
        assert (await sdk.wait_for_terminal(RUN)).output == b"out"


class TestQueue:
    async def test_a_model_is_stored_in_wire_form_with_its_bytes(
        self, sdk: SdkWorld, world: World
    ) -> None:
        asked = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        message = w.WorkflowInvokePayload(
            run_id=RUN,
            requested_at=asked,
            run_input=w.RunInput(
                input=b"\0\xff", deployment_id="d", workflow_name="wf", spec_version=5
            ),
        )
        message_id = await sdk.queue(
            QUEUE,
            message,
            deployment_id="dpl_2",
            idempotency_key="key",
            delay_seconds=60,
            headers={"x-a": "b"},
        )
        again = await sdk.queue(QUEUE, message, idempotency_key="key")
        assert again == message_id
        found = await world.messages.get(message_id)
        payload: Any = decode(found.payload)
        assert payload["runInput"]["input"] == b"\0\xff"
        assert w.WorkflowInvokePayload.from_wire(payload) == message
        assert (found.run_id, found.deployment_id, found.headers) == (RUN, "dpl_2", {"x-a": "b"})
        assert found.available_at - found.created_at == timedelta(seconds=60)

    async def test_a_plain_map_and_a_health_check(self, sdk: SdkWorld, world: World) -> None:
        plain = await sdk.queue(QUEUE, {"runId": RUN})
        check = w.HealthCheckPayload(health_check=True, correlation_id="c")
        probe = await sdk.queue(QUEUE, check)
        assert decode((await world.messages.get(plain)).payload) == {"runId": RUN}
        assert decode((await world.messages.get(probe)).payload) == {
            "__healthCheck": True,
            "correlationId": "c",
        }

    async def test_refuses_what_the_world_refuses(self, sdk: SdkWorld) -> None:
        with pytest.raises(w.WorkflowWorldError) as name:
            await sdk.queue("nonsense", {})
        assert name.value.status == 400
        with pytest.raises(TypeError):
            await sdk.queue(QUEUE, {}, unknown=1)
        with pytest.raises(ValueError, match="prefix"):
            sdk.create_queue_handler("nonsense", answer)


@dataclass
class Request:
    """A request as the SDK's protocol has it."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    url: str = "/.well-known/workflow/v1/flow"

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        yield self.body


async def answer(
    message: Any, *, attempt: int, queue_name: str, message_id: str
) -> w.QueueContinuation | None:
    if message.get("again") is None:
        return None
    return w.QueueContinuation(delay_seconds=message["again"], idempotency_key="k")


HEADERS = {"x-vqs-queue-name": QUEUE, "x-vqs-message-id": "m", "x-vqs-message-attempt": "1"}


class TestHandlers:
    def test_need_no_event_loop_and_no_database(self) -> None:
        """B205."""
        sdk = SdkWorld(create_world("file:/nowhere/at/all.db"))
        assert not sdk.has_handlers
        assert callable(sdk.create_queue_handler("__wkf_workflow_", answer))
        assert sdk.has_handlers

    async def test_speak_the_sdks_http(self, sdk: SdkWorld) -> None:
        handler = sdk.create_queue_handler("__wkf_workflow_", answer)
        done = await handler(Request(b"{}", HEADERS))
        assert isinstance(done, w.HTTPResponse)
        assert (done.status, json.loads(done.body)) == (200, {"ok": True})
        again = await handler(Request(b'{"again": 0}', HEADERS))
        reply = {"timeoutSeconds": 0.0, "idempotencyKey": "k"}
        assert (again.status, json.loads(again.body)) == (503, reply)
        again.headers["x-more"] = "the SDK adds headers"
        assert (await handler(Request(b"{}"))).status == 400

    async def test_are_called_by_the_worker_in_this_process(self, sdk: SdkWorld) -> None:
        calls: list[tuple[Any, int]] = []
        done = anyio.Event()

        async def handler(
            message: Any, *, attempt: int, queue_name: str, message_id: str
        ) -> w.QueueContinuation | QueueContinuation | None:
            calls.append((message, attempt))
            if len(calls) == 1:
                return w.QueueContinuation(delay_seconds=0, idempotency_key="mine")
            done.set()
            return None

        sdk.create_queue_handler("__wkf_workflow_", handler)
        async with sdk.world:
            await sdk.queue(QUEUE, {"n": b"1"})
            with anyio.fail_after(20):
                await done.wait()
        assert calls == [({"n": b"1"}, 1), ({"n": b"1"}, 1)], "a continuation costs no attempt"

    async def test_the_sdks_health_probe_is_answered(self, sdk: SdkWorld) -> None:
        """B114's far end: the runtime writes and closes a stream of a run that has no row."""
        payload = w.HealthCheckPayload(health_check=True, correlation_id="c")
        await runtime._answer_health_check(sdk, payload)
        name = runtime._health_check_stream_name("c")
        chunks = [c async for c in sdk.streams_get(runtime._health_check_run_id("c"), name)]
        assert json.loads(chunks[0])["healthy"] is True


class TestStreams:
    async def test_written_closed_read(self, sdk: SdkWorld) -> None:
        await sdk.streams_write(RUN, "s", b"one")
        await sdk.streams_write_multi(RUN, "s", [b"two", b"three"])
        assert await sdk.streams_get_info(RUN, "s") == w.StreamInfo(tail_index=2, done=False)
        page = await sdk.streams_get_chunks(RUN, "s", limit=2)
        assert page.data == [
            w.StreamChunk(index=0, data=b"one"),
            w.StreamChunk(index=1, data=b"two"),
        ]
        assert (page.has_more, page.done) == (True, False)
        await sdk.streams_close(RUN, "s")
        await sdk.streams_close(RUN, "s")
        page = await sdk.streams_get_chunks(RUN, "s", cursor=page.cursor)
        assert [chunk.data for chunk in page.data] == [b"three"]
        assert (page.cursor, page.has_more, page.done) == (None, False, True)
        assert [chunk async for chunk in sdk.streams_get(RUN, "s", -2)] == [b"two", b"three"]
        assert await sdk.streams_list(RUN) == ["s"]

    async def test_a_reader_that_stops_early_leaves_nothing(self, sdk: SdkWorld) -> None:
        await sdk.streams_write(RUN, "s", b"one")
        async with aclosing(sdk.streams_get(RUN, "s")) as chunks:
            assert await anext(chunks) == b"one"
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
