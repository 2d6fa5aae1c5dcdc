"""Records and SDK models, both ways; B203: what the models cannot hold."""

from __future__ import annotations

import operator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vercel.workflow._internal import world as w

from workflow_world import ABSENT, Event, Hook, NewEvent, Run, Step, World, WorldError
from workflow_world.core.events import EVENT_TYPES
from workflow_world.vercel import SdkWorld
from workflow_world.vercel.cache import EventCache
from workflow_world.vercel.models import (
    from_event,
    stamped,
    to_event,
    to_hook,
    to_run,
    to_step,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
LATER = NOW + timedelta(seconds=5)

RUN = Run(
    run_id="wrun_1",
    status="pending",
    deployment_id="dpl",
    workflow_name="wf",
    spec_version=5,
    execution_context={"features": {"encryption": False}, "n": None},
    input=b"in",
    attributes={"k": "v"},
    encryption_public_key="key",
    created_at=NOW,
    updated_at=NOW,
)
STEP = Step(
    run_id="wrun_1",
    step_id="step_1",
    step_name="s",
    status="pending",
    input=b"in",
    created_at=NOW,
    updated_at=NOW,
    spec_version=5,
)
HOOK = Hook(
    run_id="wrun_1",
    hook_id="hook_1",
    token="t",  # noqa: S106
    owner_id="o",
    project_id="p",
    environment="e",
    metadata=b"meta",
    created_at=NOW,
    spec_version=5,
    is_webhook=False,
)

SDK_EVENTS: dict[str, w.Event] = {
    "run_created": w.RunCreatedEventData(
        deployment_id="d", workflow_name="wf", input=b"", execution_context={"a": {"b": [1]}}
    ).into_event(),
    "run_started": w.RunStartedEventData(
        input=b"in", deployment_id="d", workflow_name="wf", attributes={"k": "v"}
    ).into_event(spec_version=4),
    "run_completed": w.RunCompletedEventData(output=b"out").into_event(),
    "run_failed": w.RunFailedEventData(error=b"err", error_code="USER_ERROR").into_event(),
    "run_cancelled": w.RunCancelledEventData(cancel_reason="why").into_event(),
    "attr_set": w.AttrSetEventData(
        changes=[
            w.AttributeChange(key="k", value="v"),
            w.AttributeChange(key="gone", value=None),
        ],
        writer=w.StepAttributeWriter(step_id="step_1", attempt=2),
        allow_reserved_attributes=True,
    ).into_event("attr_1"),
    "step_created": w.StepCreatedEventData(step_name="s", input=b"\0\xff").into_event("step_1"),
    "step_started": w.StepStartedEvent(correlation_id="step_1"),
    "step_retrying": w.StepRetryingEventData(error=b"e", retry_after=LATER).into_event("step_1"),
    "step_completed": w.StepCompletedEventData(result=b"").into_event("step_1"),
    "step_failed": w.StepFailedEventData(error={"message": "old"}).into_event("step_1"),
    "hook_created": w.HookCreatedEventData(
        token="t",  # noqa: S106
        metadata=b"m",
        is_system=True,
    ).into_event("hook_1"),
    "hook_received": w.HookReceivedEventData(payload=b"p").into_event("hook_1"),
    "hook_disposed": w.HookDisposedEvent(correlation_id="hook_1"),
    "hook_conflict": w.HookConflictEvent(
        correlation_id="hook_1",
        event_data=w.HookConflictEventData(token="t", conflicting_run_id="wrun_2"),  # noqa: S106
    ),
    "wait_created": w.WaitCreatedEventData(resume_at=LATER).into_event("wait_1"),
    "wait_completed": w.WaitCompletedEvent(correlation_id="wait_1"),
    "noop": w.NoopEvent(event_data=w.NoopEventData.from_wire({"sealed": True, "future": 1})),
}


def stored(new: NewEvent, **changes: Any) -> Event:
    """The record of a proposed event."""
    return Event(
        run_id="wrun_1",
        event_id="evnt_1",
        position=1,
        event_type=new.event_type,
        correlation_id=new.correlation_id,
        spec_version=new.spec_version,
        event_data=new.event_data,
        created_at=NOW,
        resume_id=new.resume_id,
        **changes,
    )


def an_event(event_type: str, data: dict[str, object] | None, **changes: Any) -> Event:
    new = NewEvent(event_type=event_type, correlation_id="c_1", event_data=data)
    return stored(new, **changes)


def a_log(length: int) -> list[Event]:
    return [
        replace(
            an_event("step_completed", {"result": b"r"}), event_id=f"evnt_{place}", position=place
        )
        for place in range(1, length + 1)
    ]


class TestEvents:
    def test_every_type_has_a_sample(self) -> None:
        assert SDK_EVENTS.keys() == EVENT_TYPES.keys()

    @pytest.mark.parametrize("event", SDK_EVENTS.values(), ids=SDK_EVENTS)
    def test_there_and_back(self, event: w.Event) -> None:
        back = to_event(stored(from_event(event)))
        assert type(back) is type(event)
        assert back.server_props == w.ServerProps(
            run_id="wrun_1", event_id="evnt_1", created_at=NOW
        )
        back.server_props = None
        assert back == event

    @pytest.mark.parametrize("event", SDK_EVENTS.values(), ids=SDK_EVENTS)
    def test_proposed_data_is_the_wire_form_without_absent_keys(self, event: w.Event) -> None:
        data = from_event(event).event_data or {}
        assert not any("_" in key for key in data)
        assert all(value is not None for value in data.values())

    def test_null_is_kept_where_it_is_a_value(self) -> None:
        changes = from_event(SDK_EVENTS["attr_set"]).event_data["changes"]  # type: ignore[index]
        assert changes == [{"key": "k", "value": "v"}, {"key": "gone", "value": None}]
        nothing = w.StepCompletedEventData(result=None).into_event("step_1")
        assert from_event(nothing).event_data == {"result": None}

    def test_bytes_and_times_stay_values(self) -> None:
        assert from_event(SDK_EVENTS["wait_created"]).event_data == {"resumeAt": LATER}
        assert from_event(SDK_EVENTS["hook_received"]).event_data == {"payload": b"p"}

    def test_a_resume_carries_its_id_digest_and_time(self) -> None:
        event = w.HookReceivedEventData(payload=b"p", token="t").into_event("hook_1")  # noqa: S106
        event._queue_input = w.HookResumeInput(
            resume_id="01ARZ3NDEKTSV4RRFFQ69G5FAV",
            hook_id="hook_1",
            token="t",  # noqa: S106
            payload=b"p",
            payload_digest="digest",
        )
        new = from_event(event)
        assert (new.resume_id, new.payload_digest) == ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "digest")
        assert new.occurred_at == datetime(2016, 7, 30, 23, 54, 10, 259_000, tzinfo=UTC)
        back = to_event(stored(new))
        assert back.server_props is not None
        assert back.server_props.resume_id == "01ARZ3NDEKTSV4RRFFQ69G5FAV"

    @given(st.none() | st.booleans() | st.integers() | st.binary() | st.text())
    def test_a_step_result_keeps_its_type(self, value: object) -> None:
        event = to_event(an_event("step_completed", {"result": value}))
        result = event.event_data.result
        assert (result, type(result)) == (value, type(value))

    def test_bytes_are_not_copied(self) -> None:
        payload = b"p" * 1000
        event = to_event(an_event("step_created", {"stepName": "s", "input": payload}))
        assert event.event_data.input is payload


class TestRows:
    def test_a_run_in_each_status(self) -> None:
        ended = replace(RUN, completed_at=LATER, started_at=NOW)
        for run in (
            RUN,
            replace(RUN, status="running", started_at=NOW),
            replace(ended, status="completed", output=b""),
            replace(ended, status="completed"),
            replace(ended, status="failed", error=b"e", error_code="C"),
            replace(ended, status="failed", error={"message": "m"}),
            replace(ended, status="cancelled"),
        ):
            model = to_run(run)
            for name in Run.__dataclass_fields__:
                value = getattr(run, name)
                assert getattr(model, name) == (None if value is ABSENT else value), name

    def test_a_step_in_each_status(self) -> None:
        ended = replace(STEP, completed_at=LATER, started_at=NOW, attempt=2)
        for step in (
            STEP,
            replace(STEP, status="running", started_at=NOW, attempt=1, error=b"before"),
            replace(STEP, retry_after=LATER, error=b"e"),
            replace(ended, status="completed", output=b"out"),
            replace(ended, status="failed", error=b"e"),
            replace(ended, status="cancelled"),
        ):
            model = to_step(step)
            for name in Step.__dataclass_fields__:
                value = getattr(step, name)
                assert getattr(model, name) == (None if value is ABSENT else value), name

    def test_a_hook(self) -> None:
        for hook in (HOOK, replace(HOOK, metadata=ABSENT, is_webhook=None, is_system=True)):
            model = to_hook(hook)
            for name in Hook.__dataclass_fields__:
                value = getattr(hook, name)
                assert getattr(model, name) == (None if value is ABSENT else value), name


ENDED: dict[str, Any] = {"status": "completed", "completed_at": LATER}


class TestUnrepresentable:
    @pytest.mark.parametrize(
        ("convert", "row", "field"),
        [
            (to_run, replace(RUN, input=["canary"]), "input"),
            (to_run, replace(RUN, **ENDED, output="canary"), "output"),
            (to_run, replace(RUN, **ENDED, output={"canary": 1}), "output"),
            (to_step, replace(STEP, input="canary"), "input"),
            (to_step, replace(STEP, input={"canary": 1}), "input"),
            (to_step, replace(STEP, **ENDED, output=[b"canary"]), "output"),
            (to_hook, replace(HOOK, metadata="canary"), "metadata"),
            (to_hook, replace(HOOK, metadata=0), "metadata"),
            (
                to_event,
                an_event(
                    "run_created", {"deploymentId": "d", "workflowName": "w", "input": "canary"}
                ),
                "eventData.input",
            ),
            (to_event, an_event("run_completed", {"output": ["canary"]}), "eventData.output"),
            (to_event, an_event("run_completed", None), "eventData"),
            (
                to_event,
                an_event("step_created", {"stepName": "s", "input": "canary"}),
                "eventData.input",
            ),
            (
                to_event,
                an_event("step_created", {"stepName": "s", "input": ["canary"]}),
                "eventData.input",
            ),
            (
                to_event,
                an_event("hook_created", {"token": "t", "metadata": "canary"}),
                "eventData.metadata",
            ),
            (to_event, an_event("hook_received", {"payload": "canary"}), "eventData.payload"),
            (to_event, an_event("hook_received", {"payload": None}), "eventData.payload"),
            (to_event, an_event("of_tomorrow", None), "its type"),
        ],
    )
    def test_is_an_error_that_names_run_and_field(
        self, convert: Any, row: object, field: str
    ) -> None:
        with pytest.raises(WorldError) as caught:
            convert(row)
        assert (caught.value.status, caught.value.code) == (500, "UNREPRESENTABLE")
        assert f" {field} of " in str(caught.value)
        assert "wrun_1" in str(caught.value)
        assert "canary" not in str(caught.value), "payloads stay out of errors"
        quoting = caught.value.__context__  # pydantic's error quotes the payload
        assert quoting is None or caught.value.__suppress_context__
        assert caught.value.__cause__ is None

    @pytest.mark.anyio
    async def test_leaves_other_rows_and_the_core_alone(self, world: World, sdk: SdkWorld) -> None:
        odd = [1, {"two": None}, "three"]
        await world.runs.create(workflow_name="wf", input=odd, run_id="wrun_odd")
        await world.runs.create(workflow_name="wf", input=b"fine", run_id="wrun_fine")
        with pytest.raises(w.WorkflowWorldError) as caught:
            await sdk.runs_get("wrun_odd")
        assert caught.value.code == "UNREPRESENTABLE"
        with pytest.raises(w.WorkflowWorldError, match="wrun_odd"):
            await sdk.events_list("wrun_odd")
        assert (await sdk.runs_get("wrun_fine")).input == b"fine"
        assert len((await sdk.events_list("wrun_fine")).data) == 1
        assert (await world.runs.get("wrun_odd")).input == odd
        bare = await sdk.runs_list(resolve_data="none")
        assert {run.run_id for run in bare.data} == {"wrun_odd", "wrun_fine"}

    @pytest.mark.anyio
    async def test_a_write_whose_answer_cannot_be_shown_is_done_all_the_same(
        self, world: World, sdk: SdkWorld
    ) -> None:
        await world.runs.create(workflow_name="wf", input=[1], run_id="wrun_odd")
        with pytest.raises(w.WorkflowWorldError, match="cannot hold input of run"):
            await sdk.events_create("wrun_odd", w.RunCancelledEvent())
        assert (await world.runs.get("wrun_odd")).status == "cancelled"


class TestStamped:
    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "proposed",
        [
            w.StepCreatedEventData(step_name="add", input=b"in").into_event("step_1"),
            w.StepStartedEvent(correlation_id="step_1"),
            w.StepCompletedEventData(result=b"out").into_event("step_1"),
        ],
        ids=lambda event: event.event_type,
    )
    async def test_is_what_the_log_gives_later(
        self, sdk: SdkWorld, world: World, proposed: w.Event
    ) -> None:
        run = await world.runs.create(workflow_name="wf", input=b"")
        await sdk.events_list(run.run_id)
        for event in (
            w.StepCreatedEventData(step_name="add", input=b"in").into_event("step_1"),
            w.StepStartedEvent(correlation_id="step_1"),
        ):
            if event.event_type == proposed.event_type:
                break
            await sdk.events_create(run.run_id, event)
        written = (await sdk.events_create(run.run_id, proposed)).event
        fresh = SdkWorld(world)
        assert written == (await fresh.events_list(run.run_id)).data[-1]
        assert written is (await sdk.events_list(run.run_id)).data[-1]
        assert written is not proposed

    @pytest.mark.parametrize(
        "proposed",
        [
            w.StepCreatedEventData(step_name="add", input={"a": (1, 2)}).into_event("step_1"),
            w.StepStartedEventData(attempt=1).into_event("step_1"),
            w.StepCompletedEventData(result=(1, 2)).into_event("step_1"),
            w.RunStartedEvent(),
        ],
        ids=lambda event: event.event_type,
    )
    def test_leaves_alone_what_storing_may_change(self, proposed: w.Event) -> None:
        recorded = replace(
            an_event(proposed.event_type, {}),
            spec_version=proposed.spec_version,
        )
        assert stamped(recorded, proposed) is None

    def test_leaves_alone_what_was_recorded_as_something_else(self) -> None:
        proposed = w.StepStartedEvent(correlation_id="step_1")
        recorded = replace(an_event("step_failed", None), spec_version=proposed.spec_version)
        assert stamped(recorded, proposed) is None
        other = replace(an_event("step_started", None), spec_version=proposed.spec_version - 1)
        assert stamped(other, proposed) is None


class TestEventCache:
    def test_converts_an_event_once(self) -> None:
        converted: list[Event] = []

        def convert(event: Event) -> w.Event:
            converted.append(event)
            return to_event(event)

        cache = EventCache(convert)
        log = a_log(3)
        first = cache.page(log[:2])
        whole = cache.page(log)
        assert whole[:2] == first
        for again in (cache.page([*map(replace, log)]), cache.page(log)):
            assert all(map(operator.is_, again, whole))
        assert cache.page(log[1:])[0] is cache.one(log[1]) is whole[1]
        assert converted == log
        assert cache.page([]) == []

    def test_adopts_what_comes_next(self) -> None:
        cache = EventCache(to_event)
        log = a_log(3)
        cache.page(log[:1])
        made = to_event(log[1])
        assert cache.adopt(log[1], made) is made
        assert cache.page(log)[1] is made

    def test_keeps_no_log_with_a_gap(self) -> None:
        cache = EventCache(to_event)
        log = a_log(4)
        cache.page(log[:1])
        made = to_event(log[2])
        assert cache.adopt(log[2], made) is made
        assert cache.page(log[2:]) == [*map(to_event, log[2:])]
        assert cache.page(log) == [*map(to_event, log)]
        assert cache.page(log)[2] is not made

    def test_never_gives_one_event_for_another(self) -> None:
        cache = EventCache(to_event)
        first = an_event("step_completed", {"result": b"r"})
        again = replace(first, event_data={"result": b"another life of the run"})
        cache.one(first)
        assert cache.one(again).event_data.result == b"another life of the run"
        assert cache.one(replace(first, run_id="wrun_2")).server_props.run_id == "wrun_2"  # type: ignore[union-attr]
        assert cache.one(first).event_data.result == b"r"

    def test_keeps_the_logs_used_last_within_its_bytes(self) -> None:
        converted: list[str] = []

        def convert(event: Event) -> w.Event:
            converted.append(event.run_id)
            return to_event(event)

        cache = EventCache(convert, max_bytes=100_000)
        events = [
            replace(an_event("step_completed", {"result": b"x" * 30_000}), run_id=f"wrun_{number}")
            for number in range(4)
        ]
        for event in events[:3]:
            cache.one(event)
        cache.one(events[0])
        cache.one(events[3])
        converted.clear()
        for event in (events[0], events[2], events[3]):
            cache.one(event)
        assert not converted
        cache.one(events[1])
        assert converted == ["wrun_1"]

    def test_a_log_larger_than_the_cache_is_converted_but_not_kept(self) -> None:
        cache = EventCache(to_event, max_bytes=1000)
        large = an_event("step_failed", {"error": {"text": ["x" * 2000]}})
        assert cache.one(large) == cache.one(large)
        assert cache.one(large) is not cache.one(large)

    def test_an_event_that_cannot_be_converted_is_not_kept(self) -> None:
        cache = EventCache(to_event)
        for _ in range(2):
            with pytest.raises(WorldError):
                cache.one(an_event("run_completed", None))
