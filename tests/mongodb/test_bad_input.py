"""URLs, names and options that cannot work, and payloads that are too large: said, and no more."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from workflow_world import BackendError, World, create_world
from workflow_world.errors import ConfigurationError, PayloadTooLargeError
from workflow_world.mongodb.client import translated
from workflow_world.mongodb.database import MAX_CHUNK

from .conftest import MakeWorld
from .helpers import QUEUE, Stored, create_run, event

pytestmark = pytest.mark.anyio

SECRET = "s3cret-passw0rd"  # noqa: S105
MIB = 1 << 20


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and whatever it came of."""
    found: list[BaseException | None] = [error]
    while found:
        one = found.pop()
        if one is not None:
            yield one
            found += [one.__cause__, one.__context__]


def assert_no_secret(error: BaseException, logged: str = "") -> None:
    texts = [logged, *traceback.format_exception(error)]
    texts += [text for one in chain(error) for text in (str(one), repr(one), repr(one.args))]
    assert not any(SECRET in text or SECRET[:6] in text for text in texts)


@pytest.mark.parametrize(
    "url",
    [
        f"mongodb://u:{SECRET}@",
        f"mongodb://u:{SECRET}@h:port/w",
        f"mongodb://u:{SECRET}@h:99999/w",
        f"mongodb://u:{SECRET}@x@h/w",
        f"mongodb://u:{SECRET}/x@h/w",
        f"mongodb://u:{SECRET}%zz@h/w",
        f"mongodb://{SECRET}:@h/w?tls=perhaps",
        f"mongodb://u:{SECRET}@h/w?authMechanism=none",
        f"mongodb://u:{SECRET}@h/w?readPreference={SECRET}",
        f"mongodb://u:{SECRET}@h/w?maxPoolSize={SECRET}",
        f"mongodb://u:{SECRET}@h/w?w=-1",
        f"mongodb://u:{SECRET}@[::1/w",
        f"mongodb://u:{SECRET}@h,,h/w",
        f"mongodb://u:{SECRET}@h/w w",
        "mongodb://",
        "mongodb:",
        "mongodb:///w",
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_url_that_cannot_work(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigurationError) as caught:
        create_world(url)
    assert "\n" not in str(caught.value)
    assert_no_secret(caught.value, caplog.text)


@pytest.mark.parametrize("name", ["a b", "a/b", "a.b", "a$b", 'a"b', "x" * 64, "é" * 32, "a\0b"])
def test_a_name_that_no_server_takes(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name of a MongoDB database"):
        create_world("mongodb://h", database_name=name)


@pytest.mark.parametrize("name", ["local", "config", "\ud800"])
def test_a_name_that_is_not_for_us(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name of a MongoDB database"):
        create_world("mongodb://h", database_name=name)


@pytest.mark.parametrize(
    "options", [{"pool": 1}, {"auth_token": "t"}, {"databaseName": "x"}, {"poll_ms": 5}]
)
def test_an_unknown_option(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        create_world("mongodb://h", **options)


@pytest.mark.parametrize(
    "options",
    [{"use_change_streams": "yes"}, {"auto_migrate": 7}, {"database_name": 7}],
)
def test_an_option_of_the_wrong_type(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        create_world("mongodb://h", **options)


async def test_secrets_are_never_shown(
    make_world: MakeWorld, nowhere: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens; all that is logged and raised may be read by anybody."""
    with caplog.at_level(logging.DEBUG):
        world = make_world(f"mongodb://user:{SECRET}@127.0.0.1:{nowhere}/w")
        with pytest.raises(BackendError) as caught:
            await world.runs.list()
    assert_no_secret(caught.value, caplog.text + repr(world) + repr(world.backend))


async def test_a_login_that_fails(
    server_port: int, make_world: MakeWorld, caplog: pytest.LogCaptureFixture
) -> None:
    """The server in memory knows no users, and refuses each."""
    with caplog.at_level(logging.DEBUG):
        world = make_world(f"mongodb://user:{SECRET}@127.0.0.1:{server_port}/w")
        with pytest.raises(BackendError) as caught:
            await world.runs.list()
    assert "\n" not in str(caught.value)
    assert_no_secret(caught.value, caplog.text)


@pytest.mark.parametrize(("code", "name"), [(18, "AuthenticationFailed"), (13, "Unauthorized")])
def test_what_a_refused_login_says(code: int, name: str) -> None:
    said = "refuses the user or the password"
    with pytest.raises(BackendError, match=said) as caught, translated():
        raise OperationFailure(name, code, {"codeName": name})
    assert name not in str(caught.value)


async def test_a_client_of_the_callers_stays_open(url: str) -> None:
    client: MongoClient[dict[str, Any]] = MongoClient(url)
    world = create_world(url, client=client)
    await create_run(world, "wrun_1")
    await world.close()
    assert client.admin.command("ping")["ok"] == 1
    client.close()


# --- sizes -----------------------------------------------------------------------------------


async def refused(stored: Stored, call: Any) -> None:
    before = stored.everything(), stored.journal
    with pytest.raises(PayloadTooLargeError) as caught:
        await call
    assert caught.value.status == 413
    assert (stored.everything(), stored.journal) == before


async def test_payloads_of_five_mebibytes(world: World, stored: Stored) -> None:
    """A step with three of them, and a run with two, are stored and read back."""
    large = [bytes([n]) * (5 * MIB) for n in range(3)]
    created = event("run_created", deploymentId="d", workflowName="w", input=large[0])
    await world.events.create("wrun_1", created)
    await world.events.create("wrun_1", event("run_started"))
    await world.events.create("wrun_1", event("step_created", "s", stepName="s", input=large[0]))
    await world.events.create("wrun_1", event("step_started", "s"))
    await world.events.create("wrun_1", event("step_retrying", "s", error=large[1]))
    await world.events.create("wrun_1", event("step_started", "s"))
    await world.events.create("wrun_1", event("step_completed", "s", result=large[2]))
    await world.events.create("wrun_1", event("run_completed", output=large[2]))
    step = await world.steps.get("wrun_1", "s")
    assert (step.input, step.output) == (large[0], large[2])
    run = await world.runs.get("wrun_1")
    assert (run.input, run.output) == (large[0], large[2])
    assert stored.journal["applied"] == stored.journal["number"]


async def test_payloads_that_are_larger(world: World, stored: Stored) -> None:
    await create_run(world, "wrun_1")
    large = b"x" * (5 * MIB + (1 << 14))
    for call in (
        create_run(world, "wrun_2", attributes={"a": "b"}, executionContext={"x": large}),
        world.events.create("wrun_1", event("step_created", "s", stepName="s", input=large)),
        world.events.create("wrun_1", event("hook_created", "h", token="t", metadata=large)),  # noqa: S106
        world.events.create("wrun_1", event("run_completed", output=large)),
        world.queue(QUEUE, {"x": large}),
    ):
        await refused(stored, call)


async def test_chunks(world: World, stored: Stored) -> None:
    most = b"x" * MAX_CHUNK
    await world.streams.write("wrun_1", "out", most)
    await world.streams.write_multi("wrun_1", "out", [most, most])
    await refused(stored, world.streams.write("wrun_1", "out", most + b"x"))
    await refused(stored, world.streams.write_multi("wrun_1", "out", [b"x", most + b"x"]))
    assert (await world.streams.get_info("wrun_1", "out")).tail_index == 2
    assert [len(one["data"]) for one in stored.alive("stream_chunks")] == [MAX_CHUNK] * 3


# --- text that no document holds ---------------------------------------------------------------


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
async def test_text_that_is_none(world: World, text: str) -> None:
    """Refused or not found, each alone, and never an error of the driver's."""
    await create_run(world, "wrun_1")
    calls = [
        world.runs.get(text),
        world.steps.get("wrun_1", text),
        world.hooks.get(text),
        world.hooks.get_by_token(text),
        world.events.get("wrun_1", text),
        world.messages.get(text),
        world.messages.list(run_id=text),
        world.streams.get_info("wrun_1", text),
        world.streams.write("wrun_1", text, b"x"),
        world.streams.list(text),
        world.queue(QUEUE, {"x": 1}, idempotency_key=text),
        world.queue(QUEUE, {"runId": text}),
        world.events.create("wrun_1", event("step_created", text, stepName="s", input=1)),
        world.events.create("wrun_1", event("step_created", "s", stepName=text, input=1)),
        world.events.create("wrun_1", event("hook_created", "h", token=text)),
        create_run(world, "wrun_2", executionContext={text: text}),
        create_run(world, text),
    ]
    for number, call in enumerate(calls):
        (found,) = await asyncio.gather(call, return_exceptions=True)
        if isinstance(found, BaseException):
            assert getattr(found, "status", None) in (400, 404, 409), (number, found)
