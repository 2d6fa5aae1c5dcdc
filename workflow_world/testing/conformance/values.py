"""Entities and values: ids, times, payloads, spec versions, copies (B001 to B014)."""

from __future__ import annotations

import itertools
import re
from collections.abc import MutableMapping, MutableSequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, cast

import pytest

from ... import codec
from ...core.entities import ABSENT
from ...errors import InvalidRequestError
from ...ids import new_id
from ...world import World
from ..clock import START, ManualClock
from .helpers import (
    CREATION,
    RUN,
    SAMPLES,
    all_events,
    create_hook,
    create_run,
    create_step,
    create_wait,
    end_run,
    receive,
    row,
    send,
    start_run,
    start_step,
)

UNDEFINED: Final[object] = vars(codec)["UNDEFINED"]
ULID: Final = "[0-9A-HJKMNP-TV-Z]{26}"
BINARY: Final = (
    b"",
    b"\0",
    b"\0\0tail",
    bytes(range(256)),
    b"\xff\xfe",
    bytes(range(256)) * 20_480,
)
PLAIN: Final = cast(
    "tuple[object, ...]",
    (
        0,
        -1,
        2**53 + 1,
        2**63,
        -(2**63) - 1,
        2**200,
        0.0,
        1.0,
        -2.5,
        1e300,
        0.1,
        True,
        False,
        None,
        "",
        "text",
        "\0",
        "naïve 日本 🎉",
        [],
        {},
        [None, [], {}],
        [1, 1.0, True, "1", b"1"],
        {"a": {"b": [{"c": None, "d": b"\0"}]}, "": 0, "ключ": [False]},
        datetime(2031, 5, 6, 7, 8, 9, 123_000, tzinfo=UTC),
        {"at": datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)},
    ),
)


def same(left: object, right: object) -> bool:
    """Equal in value and in type, all the way down: ``True`` is not ``1``."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        one, two = cast("dict[object, object]", left), cast("dict[object, object]", right)
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(left, list):
        items, others = cast("list[object]", left), cast("list[object]", right)
        return len(items) == len(others) and all(map(same, items, others))
    return left == right


async def round_trip(world: World, value: object) -> dict[str, Any]:
    """Put a value into every payload field and read each back, from its row and from the log."""
    await start_run(world, RUN, input=value)
    await create_step(world, RUN, "step_1", input=value)
    await send(world, RUN, "step_retrying", "step_1", error=value)
    retried = await world.steps.get(RUN, "step_1")
    await send(world, RUN, "step_completed", "step_1", result=value)
    await create_step(world, RUN, "step_2", input=value)
    await send(world, RUN, "step_failed", "step_2", error=value)
    await create_hook(world, RUN, metadata=value)
    hook = await world.hooks.get("hook_1")
    await receive(world, RUN, payload=value)
    await send(world, RUN, "run_completed", output=value)
    await start_run(world, "wrun_failed")
    await send(world, "wrun_failed", "run_failed", error=value)
    run, step = await world.runs.get(RUN), await world.steps.get(RUN, "step_1")
    found: dict[str, Any] = {
        "run.input": run.input,
        "run.output": run.output,
        "run.error": (await world.runs.get("wrun_failed")).error,
        "step.input": step.input,
        "step.output": step.output,
        "step.error after a retry": retried.error,
        "step.error": (await world.steps.get(RUN, "step_2")).error,
        "hook.metadata": hook.metadata,
    }
    keys = {"input", "output", "result", "error", "metadata", "payload"}
    for event in [*await all_events(world), *await all_events(world, "wrun_failed")]:
        for key in keys & (event.event_data or {}).keys():
            if event.run_id == RUN or key == "error":
                found[f"event {event.position} {event.event_type}.{key}"] = (
                    event.event_data or {}
                )[key]
    return found


@pytest.mark.anyio
async def test_b001_ids_have_their_prefix_and_rise(world: World) -> None:
    """Ids carry their prefixes and 26-character ULIDs, and rise strictly in a tight loop."""
    minted = [new_id("evnt") for _ in range(10_000)]
    assert all(low < high for low, high in itertools.pairwise(minted))
    assert all(re.fullmatch(f"evnt_{ULID}", one) for one in minted)
    run = await world.runs.create(workflow_name="greet")
    assert re.fullmatch(f"wrun_{ULID}", run.run_id)
    for number in range(20):
        await create_step(world, run.run_id, f"step_{number}")
    ids = [event.event_id for event in await all_events(world, run.run_id)]
    assert len(ids) == 21
    assert all(re.fullmatch(f"evnt_{ULID}", one) for one in ids)
    assert ids == sorted(set(ids))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "run_id", ["wrun_01ARZ3NDEKTSV4RRFFQ69G5FAV", "7", "my run/1.a#ü 🎉", "x" * 512]
)
async def test_b002_client_run_id_is_used_unchanged(world: World, run_id: str) -> None:
    """A client-supplied run id is used unchanged, also when it is not a ULID."""
    assert (await create_run(world, run_id)).run_id == run_id
    assert (await world.runs.get(run_id)).run_id == run_id
    assert [event.run_id for event in await all_events(world, run_id)] == [run_id]


@pytest.mark.anyio
@pytest.mark.parametrize("run_id", ["", "x" * 513, "a\0b"])
async def test_b002_unsafe_ids_are_refused(world: World, run_id: str) -> None:
    """Ids that are empty, longer than 512 characters or hold NUL are a 400 (spec 1.1)."""
    with pytest.raises(InvalidRequestError) as caught:
        await create_run(world, run_id)
    assert caught.value.status == 400
    await start_run(world)
    with pytest.raises(InvalidRequestError):
        await create_step(world, RUN, run_id)
    assert len(await all_events(world)) == 2


@pytest.mark.anyio
async def test_b003_run_created_without_an_id_mints_one(world: World) -> None:
    """``run_id`` None on run_created mints a ``wrun_`` id, a different one each time."""
    runs = [(await send(world, None, "run_created", **CREATION)).run for _ in range(3)]
    ids = {run.run_id for run in runs if run is not None}
    assert len(ids) == 3
    assert all(re.fullmatch(f"wrun_{ULID}", one) for one in ids)
    for run_id in ids:
        assert (await world.runs.get(run_id)).status == "pending"


@pytest.mark.anyio
async def test_b004_times_are_aware_utc_whole_milliseconds(
    world: World, clock: ManualClock
) -> None:
    """Times are aware UTC with whole milliseconds; the returned value equals the re-read one."""
    run = await create_run(world)
    clock.advance(1.5)
    started = (await send(world, RUN, "run_started")).run
    hook = await create_hook(world)
    step = await create_step(world)
    clock.advance(0.001)
    retried = (await send(world, RUN, "step_retrying", "step_1", error=b"e", retryAfter=START)).step
    wait = await create_wait(world)
    assert hook == await world.hooks.get("hook_1")
    ended = await end_run(world)
    assert ended == await world.runs.get(RUN)
    assert retried == await world.steps.get(RUN, "step_1")
    assert started is not None
    assert retried is not None
    events = await all_events(world)
    times = [
        *(run.created_at, run.updated_at, started.started_at, ended.completed_at),
        *(step.created_at, retried.retry_after, retried.updated_at, hook.created_at),
        *(wait.resume_at, wait.created_at),
        *(event.created_at for event in events),
    ]
    for time in times:
        assert time is not None
        assert time.utcoffset() == timedelta(0)
        assert time.microsecond % 1000 == 0
    assert run.created_at == START
    assert started.started_at == START + timedelta(seconds=1.5)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "given",
    [
        datetime(2031, 1, 1, 12, 0, 0, 999_999, tzinfo=UTC),
        datetime(2031, 1, 1, 12, 0, 0, 999_001),  # noqa: DTZ001, RUF100  # naive means UTC
        datetime(2031, 1, 1, 14, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2))),
        "2031-01-01T12:00:00.999Z",
    ],
)
async def test_b004_given_times_are_cut_to_milliseconds(world: World, given: object) -> None:
    """A caller's time is cut, not rounded, before it is stored; naive means UTC."""
    expected = datetime(2031, 1, 1, 12, 0, 0, 999_000, tzinfo=UTC)
    await start_run(world)
    wait = await create_wait(world, resume_at=given)
    assert wait.resume_at == expected
    assert (await world.waits.get(RUN, "wait_1")).resume_at == expected
    await create_step(world)
    result = await send(world, RUN, "step_retrying", "step_1", error=b"", retryAfter=given)
    assert result.step is not None
    assert result.step.retry_after == expected
    assert (await world.steps.get(RUN, "step_1")).retry_after == expected
    stored = (await all_events(world))[-1].event_data
    assert stored is not None
    assert stored["retryAfter"] == expected
    assert stored == row(result).event_data


@pytest.mark.anyio
@pytest.mark.parametrize("value", BINARY, ids=lambda value: f"{len(value)} bytes")
async def test_b005_bytes_round_trip(world: World, value: bytes) -> None:
    """Bytes round-trip exactly in every payload field: NUL, all values, empty, 5 MiB, or as many
    as the backend stores."""
    value = value[: world.backend.capabilities.max_payload_bytes]
    for where, found in (await round_trip(world, value)).items():
        assert type(found) is bytes, where
        assert found == value, where


@pytest.mark.anyio
@pytest.mark.parametrize("value", PLAIN, ids=lambda value: f"{value!r:.40}".replace("\0", "0"))
async def test_b006_any_value_round_trips(world: World, value: object) -> None:
    """Values of any JSON or CBOR type keep value and type in every payload field."""
    for where, found in (await round_trip(world, value)).items():
        assert same(found, value), f"{where}: {found!r}"


@pytest.mark.anyio
async def test_b007_payload_null_differs_from_absent(world: World) -> None:
    """After a re-read a payload that is null is None, and one that was not given is ABSENT."""
    cases: dict[str, dict[str, Any]] = {"wrun_null": {"output": None}, "wrun_absent": {}}
    for run_id, data in cases.items():
        await start_run(world, run_id, input=None)
        await create_step(world, run_id, "step_1", input=None)
        result: dict[str, Any] = {"result": None} if data else {}
        await send(world, run_id, "step_completed", "step_1", **result)
        metadata: dict[str, Any] = {"metadata": None} if data else {}
        await create_hook(world, run_id, token=run_id, **metadata)
        expected = None if data else ABSENT
        hook = await world.hooks.get_by_token(run_id)
        await send(world, run_id, "run_completed", **data)
        run, step = await world.runs.get(run_id), await world.steps.get(run_id, "step_1")
        assert (run.input, step.input) == (None, None)
        assert (run.output, step.output, hook.metadata) == (expected, expected, expected)
        assert run.error is ABSENT
        events = {event.event_type: event.event_data for event in await all_events(world, run_id)}
        assert events["run_completed"] == (data or None)
        assert events["step_completed"] == ({"result": None} if data else None)


@pytest.mark.anyio
async def test_b007_undefined_survives_inside_a_payload(world: World) -> None:
    """Undefined inside a payload stays undefined; as a payload itself it means absent."""
    value = {"a": UNDEFINED, "b": [UNDEFINED, None]}
    for where, found in (await round_trip(world, value)).items():
        assert found == value, where
    await start_run(world, "wrun_undefined")
    await send(world, "wrun_undefined", "run_completed", output=UNDEFINED)
    assert (await world.runs.get("wrun_undefined")).output is ABSENT
    assert (await all_events(world, "wrun_undefined"))[-1].event_data is None


@pytest.mark.anyio
async def test_b008_attributes_default_to_an_empty_map(world: World) -> None:
    """Run attributes default to ``{}``, never None."""
    assert (await create_run(world)).attributes == {}
    assert (await create_run(world, "wrun_null", attributes=None)).attributes == {}
    for run in [*await world.runs.get_many([RUN, "wrun_null"]), *(await world.runs.list()).data]:
        assert run is not None
        assert run.attributes == {}


@pytest.mark.anyio
async def test_b009_execution_context_round_trips(world: World) -> None:
    """executionContext keeps nested maps, nulls and unknown keys."""
    context = {
        "workflowCoreVersion": "4.2.0",
        "features": {"encryption": True, "nested": {"deep": [None, {"x": None}]}},
        "queueNamespace": None,
        "bytes": b"\0\xff",
        "number": 1.5,
        "": "empty key",
    }
    created = await create_run(world, executionContext=context)
    assert created.execution_context == context
    await send(world, RUN, "run_started")
    assert (await world.runs.get(RUN)).execution_context == context
    assert ((await all_events(world))[0].event_data or {})["executionContext"] == context


@pytest.mark.anyio
async def test_b009_undefined_in_the_execution_context_is_dropped(world: World) -> None:
    """A key of executionContext whose value is undefined is dropped, null is kept (spec 1.9)."""
    created = await create_run(world, executionContext={"a": UNDEFINED, "b": None})
    assert created.execution_context == {"b": None}
    assert (await world.runs.get(RUN)).execution_context == {"b": None}


@pytest.mark.anyio
async def test_b010_encryption_public_key_survives(world: World) -> None:
    """encryption_public_key survives created, started and completed."""
    created = await create_run(world, encryptionPublicKey="key-é")
    assert created.encryption_public_key == "key-é"
    await send(world, RUN, "run_started")
    assert (await world.runs.get(RUN)).encryption_public_key == "key-é"
    await end_run(world)
    assert (await world.runs.get(RUN)).encryption_public_key == "key-é"


@pytest.mark.anyio
async def test_b011_hook_flags_are_kept_apart(world: World) -> None:
    """is_webhook and is_system: False, True and absent are three different things."""
    await start_run(world)
    for webhook in (False, True, None):
        for system in (False, True, None):
            token = f"{webhook}-{system}"
            hook = await create_hook(
                world, RUN, f"hook_{token}", token, isWebhook=webhook, isSystem=system
            )
            assert (hook.is_webhook, hook.is_system) == (webhook, system)
            stored = await world.hooks.get_by_token(token)
            assert (stored.is_webhook, stored.is_system) == (webhook, system)
            data = (await all_events(world))[-1].event_data or {}
            assert data.get("isWebhook") is webhook
            assert ("isWebhook" in data, "isSystem" in data) == (
                webhook is not None,
                system is not None,
            )


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["", "größe 日本語 🎉 /.#'\"\\%_"], ids=["ascii", "unicode"])
async def test_b012_long_and_foreign_names(world: World, name: str) -> None:
    """Workflow names, step names and tokens of 500 characters and outside ASCII work."""
    name = name + "n" * (500 - len(name))
    await start_run(world, RUN, workflowName=name)
    await create_step(world, RUN, stepName=name)
    await create_hook(world, RUN, token=name)
    assert (await world.runs.get(RUN)).workflow_name == name
    assert (await world.steps.get(RUN, "step_1")).step_name == name
    assert (await world.hooks.get_by_token(name)).token == name
    assert [run.run_id for run in (await world.runs.list(workflow_name=name)).data] == [RUN]


@pytest.mark.anyio
async def test_b013_spec_versions_are_the_ones_sent(world: World) -> None:
    """Run, step, hook, wait and event have the spec version that was sent, 2 to 7."""
    for version in range(2, 8):
        run_id = f"wrun_{version}"
        run = await create_run(world, run_id, spec_version=version)
        assert run.spec_version == version
        for other in range(1, 8):
            for event_type, prefix in (("step", "step"), ("hook", "hook"), ("wait", "wait")):
                data = dict(SAMPLES[f"{event_type}_created"])
                if prefix == "hook":
                    data["token"] = f"{version}-{other}"
                entity_id = f"{prefix}_{other}"
                await send(
                    world, run_id, f"{event_type}_created", entity_id, spec_version=other, **data
                )
                event = (await all_events(world, run_id))[-1]
                assert (event.correlation_id, event.spec_version) == (entity_id, other)
            assert (await world.steps.get(run_id, f"step_{other}")).spec_version == other
            assert (await world.hooks.get_by_token(f"{version}-{other}")).spec_version == other
            assert (await world.waits.get(run_id, f"wait_{other}")).spec_version == other
        assert (await world.runs.get(run_id)).spec_version == version


@pytest.mark.anyio
@pytest.mark.parametrize("version", [0, -1, 8, 100])
async def test_b013_unknown_spec_versions_are_refused(world: World, version: int) -> None:
    """An event's spec version is 1 to 7; anything else is a 400 and writes nothing."""
    with pytest.raises(InvalidRequestError):
        await create_run(world, spec_version=version)
    assert (await world.runs.get_many([RUN]))[0] is None


@pytest.mark.anyio
async def test_b014_returned_objects_are_copies(world: World) -> None:
    """Changing what a write or a read returned changes neither the store nor a cache."""

    def value() -> dict[str, Any]:
        return {"list": [1, {"deep": "x"}], "map": {"a": {"b": 1}}}

    given = value()
    created = await create_run(world, input=given, executionContext=value(), attributes={"k": "v"})
    spoil(given)
    spoil(created.input)
    spoil(created.execution_context)
    spoil(created.attributes)
    await send(world, RUN, "run_started")
    await create_step(world, input=value())
    await start_step(world)
    await create_hook(world, metadata=value())
    await receive(world, payload=value())
    for _ in range(3):
        run, listed = await world.runs.get(RUN), (await world.runs.list()).data[0]
        for one in (run, listed):
            assert (one.input, one.execution_context) == (value(), value())
            assert one.attributes == {"k": "v"}
            spoil(one.input)
            spoil(one.execution_context)
            spoil(one.attributes)
        for step in (await world.steps.get(RUN, "step_1"), (await world.steps.list(RUN)).data[0]):
            assert step.input == value()
            spoil(step.input)
        for hook in (await world.hooks.get("hook_1"), (await world.hooks.list(RUN)).data[0]):
            assert hook.metadata == value()
            spoil(hook.metadata)
        events = await all_events(world)
        payloads = [(event.event_data or {}) for event in events]
        assert payloads[0]["input"] == value()
        assert payloads[2]["input"] == value()
        assert payloads[4]["metadata"] == value()
        assert payloads[5]["payload"] == value()
        again = await world.events.get(RUN, events[5].event_id)
        assert again.event_data == {"payload": value()}
        for data in (*payloads, again.event_data):
            spoil(data)
        started = await start_step(world)
        assert started.input == value()
        spoil(started.input)


def spoil(value: object) -> None:
    """Change everything in a value that lets itself be changed."""
    if isinstance(value, MutableMapping):
        entries = cast("MutableMapping[object, object]", value)
        for inner in list(entries.values()):
            spoil(inner)
        entries["spoiled"] = "spoiled"
    elif isinstance(value, MutableSequence):
        items = cast("MutableSequence[object]", value)
        for inner in items:
            spoil(inner)
        items.append("spoiled")
