"""The HTTP form of a handler: requests without a server (B150 to B152)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ...codec import encode
from ...http import QueueContinuation
from ...world import World
from .endpoint import Request
from .queue_helpers import (
    PREFIX,
    QUEUE_NAME,
    STEP_QUEUE_NAME,
    Recorder,
)

HEADERS = {
    "content-type": "application/json",
    "x-vqs-queue-name": QUEUE_NAME,
    "x-vqs-message-id": "msg_1",
    "x-vqs-message-attempt": "2",
}


async def answer(
    world: World,
    handler: Recorder,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"{}",
    prefix: str = PREFIX,
) -> tuple[int, Any]:
    """Status and decoded body of the handler's response."""
    handle = world.create_queue_handler(prefix, handler)
    response = await handle(Request(headers=HEADERS if headers is None else headers, body=body))
    assert response.headers["content-type"] == "application/json"
    return response.status, json.loads(response.body)


@pytest.mark.anyio
@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
async def test_b150_header_names_are_case_insensitive(world: World, spelling: Any) -> None:
    """Any mix of cases works; the handler gets what they say."""
    handler = Recorder()
    headers = {spelling(name): value for name, value in HEADERS.items()}
    assert await answer(world, handler, headers=headers, body=b'{"n": 1}') == (200, {"ok": True})
    (delivery,) = handler.deliveries
    assert (delivery.message, delivery.attempt) == ({"n": 1}, 2)
    assert (delivery.queue_name, delivery.message_id) == (QUEUE_NAME, "msg_1")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "missing", ["x-vqs-queue-name", "x-vqs-message-id", "x-vqs-message-attempt"]
)
async def test_b150_each_missing_header_is_refused(world: World, missing: str) -> None:
    """400, before the body is looked at."""
    handler = Recorder()
    headers = {name: value for name, value in HEADERS.items() if name != missing}
    expected = (400, {"error": "Missing required headers"})
    assert await answer(world, handler, headers=headers) == expected
    assert await answer(world, handler, headers=headers, body=b"") == expected
    assert handler.deliveries == []


@pytest.mark.anyio
@pytest.mark.parametrize("attempt", ["", "0", "-1", "1.5", "one", "٣", "1 2"])
async def test_b150_attempt_must_be_a_positive_integer(world: World, attempt: str) -> None:
    """Anything else is a missing header."""
    headers = {**HEADERS, "x-vqs-message-attempt": attempt}
    expected = (400, {"error": "Missing required headers"})
    assert await answer(world, Recorder(), headers=headers) == expected


@pytest.mark.anyio
async def test_b151_unusable_requests_are_refused(world: World) -> None:
    """No body, then a foreign queue, then an unreadable body: 400 in this order."""
    handler = Recorder()
    foreign = {**HEADERS, "x-vqs-queue-name": STEP_QUEUE_NAME}
    cbor = {**HEADERS, "content-type": "application/cbor"}
    cases: list[tuple[dict[str, str], bytes, str]] = [
        (HEADERS, b"", "Missing request body"),
        (foreign, b"", "Missing request body"),
        (foreign, b"{", "Unhandled queue"),
        (HEADERS, b"{", "Invalid message body"),
        (HEADERS, b"\xff", "Invalid message body"),
        (HEADERS, b'{"__type": "Uint8Array", "data": "?"}', "Invalid message body"),
        (cbor, b"\xff\xff", "Invalid message body"),
        (cbor, encode({})[:-1] + b"\xbf", "Invalid message body"),
    ]
    for headers, body, error in cases:
        assert await answer(world, handler, headers=headers, body=body) == (400, {"error": error})
    assert handler.deliveries == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"data": {"__type": "Uint8Array", "data": "AP8="}}'),
        ("application/json; charset=utf-8", b'{"data": {"__type": "Uint8Array", "data": "AP8="}}'),
        ("application/cbor", encode({"data": b"\x00\xff"})),
        ("Application/CBOR", encode({"data": b"\x00\xff"})),
        (None, encode({"data": b"\x00\xff"})),
        (None, b'{"data": {"__type": "Uint8Array", "data": "AP8="}}'),
    ],
)
async def test_b151_body_is_decoded_by_its_content_type(
    world: World, content_type: str | None, body: bytes
) -> None:
    """JSON with typed bytes, CBOR, and an unlabelled body of either kind."""
    handler = Recorder()
    headers = {name: value for name, value in HEADERS.items() if name != "content-type"}
    if content_type is not None:
        headers["content-type"] = content_type
    assert (await answer(world, handler, headers=headers, body=body))[0] == 200
    assert handler.deliveries[0].message == {"data": b"\x00\xff"}


@pytest.mark.anyio
async def test_b152_exception_is_a_500(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """With the text, and the traceback in the log."""
    assert await answer(world, Recorder(ValueError("kaboom"))) == (500, {"error": "kaboom"})
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [0, 0.0, 0.25, 3600.5, 82_800])
@pytest.mark.parametrize("key", [None, "wait_1"])
async def test_b152_continuation_is_a_503(world: World, seconds: float, key: str | None) -> None:
    """The delay is kept exactly, 0 included; the key only if there is one."""
    handler = Recorder(QueueContinuation(delay_seconds=seconds, idempotency_key=key))
    status, body = await answer(world, handler)
    expected: dict[str, object] = {"timeoutSeconds": seconds}
    if key is not None:
        expected["idempotencyKey"] = key
    assert (status, body) == (503, expected)


@pytest.mark.anyio
async def test_b152_success_is_a_200(world: World) -> None:
    """None means done, and the message rows are the sender's business."""
    assert await answer(world, Recorder()) == (200, {"ok": True})
    assert (await world.messages.list()).data == ()


@pytest.mark.anyio
async def test_asgi_application_answers_callbacks(world: World) -> None:
    """world.asgi() routes to the handler of the queue that the headers name."""
    flow, step = Recorder(), Recorder()
    world.create_queue_handler(PREFIX, flow)
    world.create_queue_handler("__wkf_step_", step)
    app = world.asgi()

    async def call(path: str, headers: dict[str, str], method: str = "POST") -> int:
        sent: list[Any] = []
        scope = {
            "type": "http",
            "path": path,
            "method": method,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        parts = iter([b'{"n"', b": 1}"])

        async def receive() -> dict[str, Any]:
            part = next(parts)
            return {"type": "http.request", "body": part, "more_body": part == b'{"n"'}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return int(sent[0]["status"])

    assert await call("/.well-known/workflow/v1/flow", HEADERS) == 200
    assert await call("/step", {**HEADERS, "x-vqs-queue-name": STEP_QUEUE_NAME}) == 200
    assert await call("/flow", {**HEADERS, "x-vqs-queue-name": "__ns_wkf_step_x"}) == 400
    assert await call("/other", HEADERS) == 404
    assert await call("/flow", HEADERS, "GET") == 405
    assert [one.message for one in (*flow.deliveries, *step.deliveries)] == [{"n": 1}] * 2
