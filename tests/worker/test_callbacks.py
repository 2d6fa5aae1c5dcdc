"""HTTP callbacks on the wire: connections kept, lost, bounded and closed; what errors show."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpcore
import pytest

from workflow_world import create_world
from workflow_world.codec import encode
from workflow_world.core.delivery import Again, Done, Failed, Outcome, Unreachable
from workflow_world.core.entities import Message
from workflow_world.errors import BackendError
from workflow_world.settings import Settings
from workflow_world.testing.conformance.endpoint import Request
from workflow_world.worker import connections
from workflow_world.worker.callback import outcome_of
from workflow_world.worker.connections import Connections, Response
from workflow_world.worker.deliver import Deliverer
from workflow_world.worker.handlers import Handlers

from .application import (
    OK,
    PATIENCE_S,
    Application,
    Call,
    answer,
    answer_and_leave,
    hang_up,
    saying,
)

pytestmark = pytest.mark.anyio
AT = datetime(2030, 1, 1, tzinfo=UTC)


def message(**values: Any) -> Message:
    fields: dict[str, Any] = {
        "message_id": "msg_1",
        "queue_name": "__wkf_step_add",
        "payload": encode({"runId": "wrun_1"}),
        "max_attempts": 3,
        "available_at": AT,
        "created_at": AT,
        "updated_at": AT,
    }
    return Message(**{**fields, **values})


@asynccontextmanager
async def delivering(url: str, **options: Any) -> AsyncGenerator[Deliverer]:
    deliverer = Deliverer(Settings(base_url=url, delivery="http", **options), Handlers())
    try:
        yield deliverer
    finally:
        await deliverer.close()


async def outcome(url: str, one: Message | None = None, **options: Any) -> Outcome:
    async with delivering(url, **options) as deliverer:
        return await deliverer.deliver(one or message())


async def test_connection_is_used_again() -> None:
    """One after the other on one connection; it is closed with the deliverer."""
    app = Application()
    async with app.running():
        async with delivering(app.url) as deliverer:
            for _ in range(3):
                assert await deliverer.deliver(message()) == Done()
        await app.until(lambda app: app.open == 0)
    assert (len(app.calls), app.accepted) == (3, 1)


async def test_closed_idle_connection_costs_nothing() -> None:
    """The server hung up between two requests: the second one goes out once, on a new one."""
    app = Application(deque([answer_and_leave]))
    async with app.running(), delivering(app.url) as deliverer:
        assert await deliverer.deliver(message()) == Done()
        await app.until(lambda app: app.open == 0)
        assert await deliverer.deliver(message(message_id="msg_2")) == Done()
    assert [call.headers["x-vqs-message-id"] for call in app.calls] == ["msg_1", "msg_2"]
    assert app.accepted == 2


async def test_hang_up_that_crosses_a_request_costs_no_attempt() -> None:
    """On a kept connection: the same call again at once, on a new connection."""
    app = Application(deque([answer, hang_up, answer]))
    async with app.running(), delivering(app.url) as deliverer:
        assert await deliverer.deliver(message()) == Done()
        assert await deliverer.deliver(message(message_id="msg_2", attempt=2)) == Done()
    assert [call.connection for call in app.calls] == [1, 1, 2]
    assert [call.headers["x-vqs-message-attempt"] for call in app.calls] == ["1", "2", "2"]


async def test_reset_that_crosses_a_request_costs_no_attempt() -> None:
    """A reset of a kept connection is a hang-up too."""

    async def reset(call: Call) -> None:
        call.writer.transport.abort()

    app = Application(deque([answer, reset]))
    async with app.running(), delivering(app.url) as deliverer:
        assert await deliverer.deliver(message()) == Done()
        assert await deliverer.deliver(message()) == Done()
    assert len(app.calls) == 3


async def test_application_that_dies_of_a_message_is_charged() -> None:
    """Twice hung up on: once on the kept connection, once on the new one, and no third time."""
    app = Application(deque([answer, hang_up, hang_up]))
    async with app.running(), delivering(app.url) as deliverer:
        assert await deliverer.deliver(message()) == Done()
        assert isinstance(await deliverer.deliver(message()), Failed)
    assert len(app.calls) == 3


async def test_application_that_is_gone_after_a_message_is_charged() -> None:
    """It may have died of the message: not reaching it any more does not make that free."""
    app = Application(deque([answer]))
    async with app.running() as server, delivering(app.url) as deliverer:

        async def die(call: Call) -> None:
            server.close()
            call.writer.close()

        app.script.append(die)
        assert await deliverer.deliver(message()) == Done()
        assert isinstance(await deliverer.deliver(message()), Failed)
    assert len(app.calls) == 2


async def test_new_connection_that_hangs_up_is_charged() -> None:
    """Nothing could have crossed: the request is not sent again."""
    app = Application(deque([hang_up]))
    async with app.running():
        assert isinstance(await outcome(app.url), Failed)
    assert len(app.calls) == 1


async def test_late_hang_up_is_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application had the request for longer than a crossing takes."""
    monkeypatch.setattr(connections, "CROSSING_S", 0.0)
    app = Application(deque([answer, hang_up]))
    async with app.running(), delivering(app.url) as deliverer:
        assert await deliverer.deliver(message()) == Done()
        assert isinstance(await deliverer.deliver(message()), Failed)
    assert len(app.calls) == 2


@pytest.mark.parametrize("said", [b"nonsense\r\n\r\n", OK[:-1], b"HTTP/1.1 99 -\r\n\r\n"])
async def test_broken_answer_is_no_hang_up(said: bytes) -> None:
    """Something came back, so the request was seen: it is not sent again."""

    async def say_and_leave(call: Call) -> None:
        call.writer.write(said)
        call.writer.close()

    app = Application(deque([answer, say_and_leave]))
    async with app.running():
        async with delivering(app.url) as deliverer:
            assert await deliverer.deliver(message()) == Done()
            assert isinstance(await deliverer.deliver(message()), Failed)
        await app.until(lambda app: app.open == 0)
    assert len(app.calls) == 2


async def test_restart_of_the_application() -> None:
    """Down: unreachable, nothing charged. Up again on the same port: delivered."""
    app = Application()
    async with app.running():
        url = app.url
        deliverer = Deliverer(Settings(base_url=url, delivery="http"), Handlers())
        outcomes = await asyncio.gather(*[deliverer.deliver(message()) for _ in range(5)])
        assert outcomes == [Done()] * 5
    assert isinstance(await deliverer.deliver(message()), Unreachable)
    async with app.running():
        outcomes = await asyncio.gather(*[deliverer.deliver(message()) for _ in range(5)])
        assert outcomes == [Done()] * 5
        await deliverer.close()
    assert len(app.calls) == 10


async def test_connection_idle_for_too_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next delivery, which opens its own."""
    monkeypatch.setattr(connections, "KEEP_ALIVE_S", -1.0)
    app = Application()
    async with app.running(), delivering(app.url) as deliverer:
        for _ in range(3):
            assert await deliverer.deliver(message()) == Done()
        await app.until(lambda app: app.open == 1)
    assert app.accepted == 3


async def test_a_host_that_vanished_is_noticed() -> None:
    """It sends no hang-up: the system has to look for it. Each option where the system has it."""
    app, found = Application(), connections.Connections(limit=1, total_s=None)
    async with app.running():
        url, head = httpcore.URL(app.url), [(b"host", b"a"), (b"content-length", b"0")]
        await found.post(url, head, b"")
        (kept,) = found._idle
        answer = await kept.handle_async_request(httpcore.Request("POST", url, headers=head))
        await answer.aread()
        await answer.aclose()
        wire = answer.extensions["network_stream"].get_extra_info("socket")
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        expected = {
            "TCP_KEEPIDLE": 15,
            "TCP_KEEPALIVE": 15,
            "TCP_KEEPINTVL": 5,
            "TCP_KEEPCNT": 4,
        }
        for name, value in expected.items():
            if hasattr(socket, name):
                assert wire.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
        await found.close()
    assert len(app.calls) == 2


async def test_idle_connections_are_bounded_and_closed() -> None:
    """Twelve at once, three kept, none left after close; and the deliverer works after it."""
    all_here = asyncio.Event()

    async def together(call: Call) -> None:
        if len(app.calls) == 12:
            all_here.set()
        async with asyncio.timeout(PATIENCE_S):
            await all_here.wait()
        await answer(call)

    app = Application(deque([together] * 12))
    async with app.running():
        async with delivering(app.url, concurrency=3) as deliverer:
            outcomes = await asyncio.gather(*[deliverer.deliver(message()) for _ in range(12)])
            assert outcomes == [Done()] * 12
            await app.until(lambda app: app.open == 3)
            await deliverer.close()
            await app.until(lambda app: app.open == 0)
            assert await deliverer.deliver(message()) == Done()
        await app.until(lambda app: app.open == 0)
    assert app.accepted == 13


async def test_cancelled_deliveries_leave_no_connection() -> None:
    """On new and on kept connections, whatever they were waiting for."""

    async def head_only(call: Call) -> None:
        call.writer.write(OK[:-1])

    app = Application(deque([answer, saying(b""), head_only]))
    async with app.running(), delivering(app.url) as deliverer:
        assert await deliverer.deliver(message()) == Done()
        tasks = [asyncio.create_task(deliverer.deliver(message())) for _ in range(2)]
        await app.until(lambda app: len(app.calls) == 3)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in results] == [asyncio.CancelledError] * 2
        await app.until(lambda app: app.open == 0)


async def test_timeout_bounds_the_whole_call() -> None:
    """An answer that keeps coming, byte after byte, is cut off and charged."""
    told = asyncio.Event()

    async def drip(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        while not told.is_set():
            call.writer.write(b" ")
            await call.writer.drain()
            await asyncio.sleep(0.001)

    app = Application(deque([drip]))
    async with app.running():
        result = await outcome(app.url, http_timeout_s=0.1)
        told.set()
        await app.until(lambda app: app.open == 0)
    assert result == Failed(message="TimeoutError: no answer within 0.1 s")


async def test_timeout_before_a_connection_stands_costs_no_attempt() -> None:
    """Nobody answers the TLS greeting: the request was never sent, and no connection stays."""
    connections: list[asyncio.Event] = []

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(gone := asyncio.Event())
        await reader.read()
        writer.close()
        gone.set()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await outcome(f"https://localhost:{port}", http_timeout_s=0.1)
        async with asyncio.timeout(PATIENCE_S):
            for gone in connections:
                await gone.wait()
    assert isinstance(result, Unreachable)


async def test_base_url_that_changes_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections to the old address are closed when they are found."""
    old, new = Application(), Application()
    async with old.running(), new.running():
        deliverer = Deliverer(Settings(delivery="http"), Handlers())
        for app in (old, new):
            monkeypatch.setenv("WORKFLOW_SERVICE_URL", app.url)
            assert await deliverer.deliver(message()) == Done()
        await old.until(lambda app: app.open == 0)
        await deliverer.close()
    assert (len(old.calls), len(new.calls)) == (1, 1)


async def test_login_in_the_url_is_sent() -> None:
    """As basic authentication, unquoted, over a header of the message's own."""
    app = Application()
    async with app.running():
        url = app.url.replace("//", "//us%40er:s3cr%2Ft@")
        assert await outcome(url, message(headers={"Authorization": "forged"})) == Done()
    assert app.calls[0].headers["authorization"] == "Basic dXNAZXI6czNjci90"


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3c/r3t@host",
        "http://user:s3cr3t@host:port",
        "ftp://user:s3cr3t@host",
        "user:s3cr3t@host",
        "http://",
        "http://user:s3cr3t@",
    ],
)
async def test_unusable_url_is_a_failure_that_shows_nothing(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the outcome nor in the log."""
    result = await outcome(url)
    assert isinstance(result, Failed)
    assert "s3c" not in repr(result) + caplog.text


async def test_unsendable_header_is_a_failure_that_shows_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A header's value may be a secret."""
    app = Application()
    async with app.running():
        result = await outcome(app.url, message(headers={"x-key": "s3cr3t\r\nx-forged: 1"}))
    assert isinstance(result, Failed)
    assert "s3cr3t" not in repr(result) + caplog.text
    assert app.calls == []


async def test_message_headers_do_not_frame_the_body() -> None:
    """How long it is and how the answer may come is not theirs to say; the rest is."""
    theirs = {
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "Accept-Encoding": "br",
        "User-Agent": "mine",
    }
    app = Application()
    async with app.running():
        assert await outcome(app.url, message(headers=theirs)) == Done()
    (call,) = app.calls
    assert json.loads(call.body) == {"runId": "wrun_1"}
    assert "transfer-encoding" not in call.headers
    assert call.headers["accept-encoding"] == "identity"
    assert call.headers["user-agent"] == "mine"


async def test_a_large_answer_is_read_to_its_end_and_mostly_forgotten() -> None:
    large = b"HTTP/1.1 200 -\r\ncontent-length: %d\r\n\r\n" % (5 << 20) + b"x" * (5 << 20)
    app = Application(deque([saying(large)]))
    async with app.running():
        sender = Connections(limit=1, total_s=20)
        url = httpcore.URL(f"{app.url}/")
        head = [(b"Host", b"here"), (b"Content-Length", b"2")]
        answer = await sender.post(url, head, b"{}")
        assert (answer.status, answer.body) == (200, b"x" * (1 << 20))
        assert (await sender.post(url, head, b"{}")).body == b"{}"
        assert app.accepted == 1
        await sender.close()


async def test_compressed_answer_is_read() -> None:
    """A server may compress without being asked to."""
    body = gzip.compress(b'{"timeoutSeconds": 1.5, "idempotencyKey": "k"}')
    head = b"HTTP/1.1 503 -\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    app = Application(deque([saying(head + body)]))
    async with app.running():
        assert await outcome(app.url) == Again(delay_seconds=1.5, idempotency_key="k")


@pytest.mark.parametrize(
    "body",
    [
        b'{"timeoutSeconds": 1e999}',
        b'{"timeoutSeconds": ' + b"9" * 400 + b"}",
        b'{"timeoutSeconds": ' + b"9" * 10_000 + b"}",
        b'{"timeoutSeconds": true}',
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("encoding", [None, b"gzip"])
async def test_success_whatever_the_body(body: bytes, encoding: bytes | None) -> None:
    """2xx without a finite number is success; also when it says gzip and is not."""
    headers = [] if encoding is None else [(b"Content-Encoding", encoding)]
    assert outcome_of(Response(status=200, headers=headers, body=body)) == Done()
    assert isinstance(outcome_of(Response(status=503, headers=headers, body=body)), Failed)


@pytest.mark.parametrize(
    "error",
    [
        BackendError("gone"),
        BackendError("lost", code="UNKNOWN_OUTCOME"),
        ExceptionGroup("of the SDK's tasks", [BackendError("gone")]),
    ],
    ids=repr,
)
async def test_outage_of_the_applications_database_costs_nothing(error: Exception) -> None:
    """As in process: the answer of our own handler is no failure, however often it comes."""
    world = create_world("memory:")

    async def handler(message: object, **about: object) -> None:
        raise error

    handle = world.create_queue_handler("__wkf_step_", handler)

    async def by_our_handler(call: Call) -> None:
        response = await handle(Request(headers=call.headers, body=call.body))
        lines = [f"HTTP/1.1 {response.status} -", f"content-length: {len(response.body)}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        call.writer.write("\r\n".join([*lines, "", ""]).encode() + response.body)

    app = Application(deque([by_our_handler]))
    async with app.running():
        result = await outcome(app.url)
    assert isinstance(result, Unreachable)
    await world.close()


@pytest.mark.parametrize("key", ["a\0b", "\ud800", "k" * 513])
@pytest.mark.parametrize("status", [200, 503])
def test_a_key_that_no_message_can_have_is_a_failure(status: int, key: str) -> None:
    body = json.dumps({"timeoutSeconds": 1, "idempotencyKey": key}).encode()
    found = outcome_of(Response(status=status, headers=[], body=body))
    assert isinstance(found, Failed)
    assert (found.status, found.retry_after_seconds) == (status, None)
    assert "idempotency key" in found.message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"Wed, 01 Jan 2031 00:01:30 GMT", 90),
        (b"Wed, 01 Jan 2031 01:01:30 +0100", 90),
        (b"Wed, 01 Jan 2031 00:01:30", 90),
        (b"Tue, 01 Jan 2030 00:00:00 GMT", 0),
        (b"Fri, 31 Dec 9999 23:59:59 -0200", None),
        (b"soon", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_retry_after_may_be_a_date(value: bytes, seconds: float | None) -> None:
    """By the clock of whoever answers, if it says what that shows."""
    date = (b"Date", b"Wed, 01 Jan 2031 00:00:00 GMT")
    found = outcome_of(Response(status=503, headers=[(b"Retry-After", value), date], body=b""))
    assert isinstance(found, Failed)
    assert found.retry_after_seconds == seconds


def test_retry_after_with_a_date_and_no_clock() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True).encode()
    found = outcome_of(Response(status=429, headers=[(b"retry-after", date)], body=b""))
    assert isinstance(found, Failed)
    assert found.retry_after_seconds is not None
    assert 0 < found.retry_after_seconds <= 60


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b'{"code": "BUSY"}'), (503, b'["BACKEND"]'), (503, b""), (429, b'{"code": "BACKEND"}')],
)
def test_retry_after_of_others_is_a_delay(status: int, body: bytes) -> None:
    """Only a 503 that names the outage is one; the rest is what spec 4.11 says."""
    found = outcome_of(Response(status=status, headers=[(b"Retry-After", b"1")], body=body))
    assert isinstance(found, Failed)
    assert found.retry_after_seconds == 1
