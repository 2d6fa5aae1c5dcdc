"""Callbacks to a real HTTP server (B116, B144 to B149, B154), over loopback."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ...codec import decode
from ...core.entities import Message
from ...http import HTTPResponse, QueueContinuation
from ...world import World
from .endpoint import Endpoint, Request, serving
from .fixtures import MakeWorld
from .queue_helpers import (
    PREFIX,
    QUEUE_NAME,
    STEP_QUEUE_NAME,
    Gate,
    Recorder,
    message_in,
    message_that,
    working,
)

PAYLOAD: dict[str, Any] = {
    "runId": "wrun_1",
    "runInput": {"input": bytes(range(256)), "empty": b""},
    "none": None,
    "text": "grüße 世界 🌍",
    "values": [0, -1, 1.5, "", False, True, [], {}],
}


AT = datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


def reply(status: int, value: object = None, **headers: str) -> HTTPResponse:
    """A response with a JSON body, or none at all."""
    body = b"" if value is None else json.dumps(value).encode()
    return HTTPResponse(status, body, headers)


async def calling(make_world: MakeWorld, endpoint: Endpoint, **options: Any) -> World:
    """A World whose started worker calls the endpoint."""
    world = make_world(real_time=True, base_url=endpoint.url, **options)
    await world.start()
    return world


def was_tried(message: Message) -> bool:
    return message.status != "processing" and message.last_error is not None


@pytest.mark.anyio
async def test_b144_callback_says_what_it_delivers(make_world: MakeWorld) -> None:
    """POST, the route, the three headers, the message's own headers, and the payload alone."""
    async with serving(Endpoint()) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(
            QUEUE_NAME,
            {"runId": "wrun_1"},
            headers={
                "X-Trace": "t1",
                "Content-Type": "text/plain",
                "X-VQS-Queue-Name": "forged",
                "x-vqs-message-id": "forged",
                "x-vqs-message-attempt": "9",
            },
        )
        request = await endpoint.called()
        await message_in(world, message_id, "completed")
    assert (request.method, request.url) == ("POST", "/.well-known/workflow/v1/flow")
    assert request.header("content-type") == "application/json"
    assert request.header("x-vqs-queue-name") == QUEUE_NAME
    assert request.header("x-vqs-message-id") == message_id
    assert request.header("x-vqs-message-attempt") == "1"
    assert request.header("x-trace") == "t1"
    assert json.loads(request.body) == {"runId": "wrun_1"}
    assert len(endpoint.requests) == 1


@pytest.mark.anyio
async def test_b116_json_body_carries_bytes_and_times(make_world: MakeWorld) -> None:
    """Bytes as typed base64, times as ISO texts, everything else as it is."""
    async with serving(Endpoint()) as endpoint:
        world = await calling(make_world, endpoint)
        await world.queue(QUEUE_NAME, {"data": b"\x00\xff", "at": AT, "text": "grüße"})
        request = await endpoint.called()
    assert json.loads(request.body) == {
        "data": {"__type": "Uint8Array", "data": "AP8="},
        "at": "2030-01-02T03:04:05.678Z",
        "text": "grüße",
    }


@pytest.mark.anyio
async def test_b116_cbor_body_is_the_stored_payload(make_world: MakeWorld) -> None:
    """content_type="application/cbor": bytes and times stay what they are."""
    async with serving(Endpoint()) as endpoint:
        world = await calling(make_world, endpoint, content_type="application/cbor")
        await world.queue(QUEUE_NAME, {**PAYLOAD, "at": AT})
        request = await endpoint.called()
    assert request.header("content-type") == "application/cbor"
    assert decode(request.body) == {**PAYLOAD, "at": AT}


@pytest.mark.anyio
@pytest.mark.parametrize("delivery", ["inprocess", "application/json", "application/cbor"])
async def test_b116_payload_arrives_equal(make_world: MakeWorld, delivery: str) -> None:
    """The handler sees what was queued, whichever way it came."""
    handler = Recorder()
    if delivery == "inprocess":
        world = make_world(real_time=True)
        await working(world, handler)
        await world.queue(QUEUE_NAME, PAYLOAD)
        await handler.called()
    else:
        application = make_world(real_time=True)
        answer = application.create_queue_handler(PREFIX, handler)
        async with serving(Endpoint(answer)) as endpoint:
            world = await calling(make_world, endpoint, content_type=delivery)
            message_id = await world.queue(QUEUE_NAME, PAYLOAD)
            await message_in(world, message_id, "completed")
    assert handler.deliveries[0].message == PAYLOAD


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "route"),
    [
        (QUEUE_NAME, "flow"),
        (STEP_QUEUE_NAME, "step"),
        ("__ns_wkf_workflow_greet", "flow"),
        ("__ns_wkf_step_add", "step"),
        ("__wkf_workflow___wkf_step_add", "flow"),
        ("__wkf_workflow_grüße 世界", "flow"),
    ],
)
async def test_b146_kind_of_queue_decides_the_route(
    make_world: MakeWorld, name: str, route: str
) -> None:
    """Workflow queues call /flow and step queues /step, with and without a namespace."""
    async with serving(Endpoint()) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(name, {})
        request = await endpoint.called()
        await message_in(world, message_id, "completed")
    assert request.url == f"/.well-known/workflow/v1/{route}"
    raw = request.header("x-vqs-queue-name")
    assert raw is not None
    assert raw.encode("latin-1").decode() == name


@pytest.mark.anyio
async def test_b145_base_url_priority(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Option, then WORKFLOW_SERVICE_URL, then PORT; looked up at each delivery."""
    monkeypatch.delenv("WORKFLOW_SERVICE_URL", raising=False)
    monkeypatch.setenv("PORT", "1")
    async with serving(Endpoint()) as option, serving(Endpoint()) as service:
        explicit = make_world(real_time=True, base_url=f"{option.url}/", poll_interval_ms=20)
        monkeypatch.setenv("WORKFLOW_SERVICE_URL", service.url)
        await explicit.start()
        await explicit.queue(QUEUE_NAME, {"n": 1})
        await option.called()
        await explicit.close()
        world = make_world(real_time=True, poll_interval_ms=20)
        await world.start()
        await world.queue(QUEUE_NAME, {"n": 2})
        await service.called()
        monkeypatch.setenv("WORKFLOW_SERVICE_URL", f"{option.url}/")
        await world.queue(QUEUE_NAME, {"n": 3})
        await option.called(2)
        monkeypatch.delenv("WORKFLOW_SERVICE_URL")
        monkeypatch.setenv("PORT", str(service.port))
        await world.queue(QUEUE_NAME, {"n": 4})
        await service.called(2)
    for endpoint in (option, service):
        assert {one.url for one in endpoint.requests} == {"/.well-known/workflow/v1/flow"}


@pytest.mark.anyio
async def test_b145_default_base_url(
    make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """http://localhost:3000 when nothing is set."""
    from ...worker.callback_url import base_url

    world = make_world()
    for name in ("WORKFLOW_SERVICE_URL", "PORT"):
        monkeypatch.delenv(name, raising=False)
    assert base_url(world.settings) == "http://localhost:3000"
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("WORKFLOW_SERVICE_URL", "")
    assert base_url(world.settings) == "http://localhost:3000"


@pytest.mark.anyio
@pytest.mark.parametrize("status", [200, 202, 503])
@pytest.mark.parametrize("seconds", [0, 0.01, 0.0])
async def test_b147_timeout_seconds_reschedules(
    make_world: MakeWorld, status: int, seconds: float
) -> None:
    """2xx or 503 with a number, 0 and fractions included: again, with attempt 1."""
    async with serving(Endpoint(reply(status, {"timeoutSeconds": seconds}))) as endpoint:
        world = await calling(make_world, endpoint, max_retries=1)
        message_id = await world.queue(QUEUE_NAME, {})
        await endpoint.called(2)
        done = await message_in(world, message_id, "completed")
    assert [one.header("x-vqs-message-attempt") for one in endpoint.requests] == ["1", "1"]
    assert {one.header("x-vqs-message-id") for one in endpoint.requests} == {message_id}
    assert (done.attempt, done.last_error) == (1, None)


@pytest.mark.anyio
async def test_b147_continuation_carries_a_key(make_world: MakeWorld) -> None:
    """idempotencyKey becomes the message's key; the delay is kept."""
    answer = reply(503, {"timeoutSeconds": 3600.5, "idempotencyKey": "wait_1"})
    async with serving(Endpoint(answer)) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(QUEUE_NAME, {})
        again = await message_that(world, message_id, lambda one: one.idempotency_key == "wait_1")
    assert (again.status, again.attempt) == ("pending", 1)
    assert again.available_at - again.updated_at == timedelta(seconds=3600.5)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body",
    [{}, {"timeoutSeconds": "5"}, {"timeoutSeconds": None}, {"timeoutSeconds": -1}, [1], "5"],
)
@pytest.mark.parametrize("status", [200, 503])
async def test_b147_without_a_number_the_status_decides(
    make_world: MakeWorld, status: int, body: object
) -> None:
    """200 is success, 503 a failure, whatever else the body says."""
    async with serving(Endpoint(reply(status, body))) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(QUEUE_NAME, {})
        if status == 200:
            assert (await message_in(world, message_id, "completed")).attempt == 1
        else:
            message = await message_that(world, message_id, was_tried)
            assert (message.status, message.attempt) == ("pending", 2)


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"", b"ok", b"\xff\xfe", b"{", b'{"timeoutSeconds": NaN}'])
async def test_b147_success_needs_no_readable_body(make_world: MakeWorld, body: bytes) -> None:
    """Any 2xx without a finite number completes the message."""
    async with serving(Endpoint(HTTPResponse(200, body))) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(QUEUE_NAME, {})
        await message_in(world, message_id, "completed")


@pytest.mark.anyio
@pytest.mark.parametrize("status", [429, 503])
async def test_b148_retry_after_costs_no_attempt(make_world: MakeWorld, status: int) -> None:
    """The message waits at least so long, and keeps its attempt."""
    async with serving(Endpoint(reply(status, **{"Retry-After": "40"}))) as endpoint:
        world = await calling(make_world, endpoint, max_retries=1)
        message_id = await world.queue(QUEUE_NAME, {})
        message = await message_that(world, message_id, was_tried)
    assert (message.status, message.attempt) == ("pending", 1)
    assert message.available_at - message.updated_at >= timedelta(seconds=40)


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 502, 504, 302, 307])
async def test_b149_other_statuses_cost_an_attempt(make_world: MakeWorld, status: int) -> None:
    """A failure with the status in the last error; redirects are not followed."""
    answer = reply(status, {"error": "because"}, location="/elsewhere")
    async with serving(Endpoint(answer)) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(QUEUE_NAME, {})
        message = await message_that(world, message_id, was_tried)
        assert len(endpoint.requests) == 1
    assert (message.status, message.attempt) == ("pending", 2)
    assert message.last_error is not None
    assert message.last_error["status"] == status
    assert str(status) in str(message.last_error["message"])


@pytest.mark.anyio
async def test_b149_timeout_costs_an_attempt(make_world: MakeWorld) -> None:
    """http_timeout_s bounds the callback; what it cuts off before it is connected costs none."""
    gate, requests = Gate(), list[Request]()

    async def never(request: Request) -> HTTPResponse:
        requests.append(request)
        await gate()
        return HTTPResponse(200, b"")

    async with serving(Endpoint(never)) as endpoint:
        world = await calling(make_world, endpoint, http_timeout_s=0.05)
        message_id = await world.queue(QUEUE_NAME, {})
        message = await message_that(
            world, message_id, lambda found: was_tried(found) and found.attempt > 1
        )
    assert (message.status, message.attempt) == ("pending", 2)
    assert requests


@pytest.mark.anyio
async def test_b149_lost_response_costs_an_attempt(make_world: MakeWorld) -> None:
    """The connection broke after the request: the handler may have run."""

    async def hang_up(request: Request) -> HTTPResponse:
        raise ConnectionResetError("gone")

    async with serving(Endpoint(hang_up)) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(QUEUE_NAME, {})
        message = await message_that(world, message_id, was_tried)
    assert (message.status, message.attempt) == ("pending", 2)


@pytest.mark.anyio
async def test_refused_connection_costs_no_attempt(make_world: MakeWorld) -> None:
    """Design 7, over B149: an application that is not there cannot use attempts up."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        world = make_world(real_time=True, base_url=url, max_retries=1)
        await world.start()
        message_id = await world.queue(QUEUE_NAME, {})
        message = await message_that(world, message_id, was_tried)
    assert (message.status, message.attempt) == ("pending", 1)
    assert message.available_at > message.updated_at


@pytest.mark.anyio
async def test_unknown_host_costs_no_attempt(make_world: MakeWorld) -> None:
    """A name that cannot be found is an application that is not there."""
    world = make_world(real_time=True, base_url="http://nobody.invalid:1", max_retries=1)
    await world.start()
    message_id = await world.queue(QUEUE_NAME, {})
    message = await message_that(world, message_id, was_tried)
    assert (message.status, message.attempt) == ("pending", 1)


@pytest.mark.anyio
async def test_last_error_shows_no_credentials(make_world: MakeWorld) -> None:
    """Spec 1.7: what a callback URL carries in user info is not stored."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        world = make_world(real_time=True, base_url=f"http://user:s3cr3t@127.0.0.1:{port}")
        await world.start()
        message_id = await world.queue(QUEUE_NAME, {})
        message = await message_that(world, message_id, was_tried)
    assert "s3cr3t" not in repr(message)


@pytest.mark.anyio
async def test_b154_handler_in_this_process_needs_no_http(make_world: MakeWorld) -> None:
    """No request is made for a registered prefix; the rest is called over HTTP."""
    async with serving(Endpoint()) as endpoint:
        world = make_world(real_time=True, base_url=endpoint.url)
        handler = await working(world, Recorder())
        ours = await world.queue(QUEUE_NAME, {})
        await message_in(world, ours, "completed")
        assert (handler.ids, endpoint.requests) == ([ours], [])
        theirs = await world.queue(STEP_QUEUE_NAME, {})
        await message_in(world, theirs, "completed")
    assert handler.ids == [ours]
    assert [one.header("x-vqs-message-id") for one in endpoint.requests] == [theirs]


@pytest.mark.anyio
async def test_b154_delivery_http_forces_callbacks(make_world: MakeWorld) -> None:
    """delivery="http": the registered handler is not called directly."""
    async with serving(Endpoint()) as endpoint:
        world = make_world(real_time=True, base_url=endpoint.url, delivery="http")
        handler = await working(world, Recorder())
        message_id = await world.queue(QUEUE_NAME, {})
        await message_in(world, message_id, "completed")
    assert (len(endpoint.requests), handler.deliveries) == (1, [])


@pytest.mark.anyio
async def test_b149_attempt_is_named_in_each_callback(make_world: MakeWorld) -> None:
    """The second attempt says 2."""
    async with serving(Endpoint(reply(500))) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(QUEUE_NAME, {})
        await endpoint.called(2)
        await message_in(world, message_id, "completed")
    assert [one.header("x-vqs-message-attempt") for one in endpoint.requests] == ["1", "2"]


@pytest.mark.anyio
async def test_b152_round_trip_of_a_continuation(make_world: MakeWorld) -> None:
    """A handler's 0 comes back through HTTP as an immediate re-run of the same message."""
    application = make_world(real_time=True)
    handler = Recorder(QueueContinuation(delay_seconds=0))
    handle = application.create_queue_handler(PREFIX, handler)
    async with serving(Endpoint(handle, handle)) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(QUEUE_NAME, {})
        await message_in(world, message_id, "completed")
    assert handler.ids == [message_id] * 2
    assert handler.attempts == [1, 1]


@pytest.mark.anyio
@pytest.mark.parametrize("name", [QUEUE_NAME, "__wkf_workflow_grüße 世界"])
async def test_b152_queue_name_arrives_as_it_was_given(make_world: MakeWorld, name: str) -> None:
    """Also when it is not ASCII: the handler sees the queue's own name."""
    handler = Recorder()
    handle = make_world(real_time=True).create_queue_handler(PREFIX, handler)
    async with serving(Endpoint(handle)) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(name, {})
        await message_in(world, message_id, "completed")
    assert [one.queue_name for one in handler.deliveries] == [name]


@pytest.mark.anyio
@pytest.mark.parametrize("value", ["grüße 世界", "a\r\nx-forged: 1", "a\0b"])
async def test_unsendable_header_does_not_hold_a_message_for_ever(
    make_world: MakeWorld, value: str
) -> None:
    """A header that HTTP cannot carry ends in a delivery or a failed attempt, never in limbo."""
    async with serving(Endpoint()) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(QUEUE_NAME, {}, headers={"x-trace": value})
        await message_that(
            world, message_id, lambda one: one.status == "completed" or was_tried(one)
        )
    assert all(one.header("x-forged") is None for one in endpoint.requests)


@pytest.mark.anyio
async def test_payload_that_json_cannot_carry_is_a_failed_attempt(make_world: MakeWorld) -> None:
    """CBOR stores more than JSON can say: the message fails, it is not held for ever."""
    async with serving(Endpoint()) as endpoint:
        world = await calling(make_world, endpoint)
        message_id = await world.queue(QUEUE_NAME, {"set": {1, 2}})
        message = await message_that(world, message_id, was_tried)
    assert (message.status, message.attempt, endpoint.requests) == ("pending", 2, [])
