"""The registered handlers as one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from ..http import HTTPResponse
from .handlers import Handlers

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEALTH: Final = "__health"


@dataclass(frozen=True, slots=True)
class AsgiRequest:
    """An ASGI request as ``HTTPRequest``."""

    method: str
    url: str
    headers: Mapping[str, str]
    receive: Receive

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self.receive()
            more = message["type"] == "http.request" and bool(message.get("more_body"))
            if body := message.get("body", b""):
                yield body


def asgi_app(handlers: Handlers) -> AsgiApp:
    """``POST …/flow`` and ``…/step`` go to the handler of the queue that the headers name;
    ``?__health`` on either answers that the endpoint lives."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"This application serves HTTP, not {scope['type']}")
        response = await _respond(handlers, scope, receive)
        headers = [(name.encode(), value.encode()) for name, value in response.headers.items()]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    return app


async def _respond(handlers: Handlers, scope: Scope, receive: Receive) -> HTTPResponse:
    query = bytes(scope.get("query_string", b"")).decode("latin-1")
    path = str(scope["path"])
    if path.rstrip("/").rpartition("/")[2] not in ("flow", "step"):
        return HTTPResponse.json({"error": "Not found"}, status=404)
    if any(name == _HEALTH for name, _ in parse_qsl(query, keep_blank_values=True)):
        return HTTPResponse.json({"healthy": True, "endpoint": path})
    if scope["method"] != "POST":
        return HTTPResponse.json({"error": "Method not allowed"}, status=405)
    request = AsgiRequest(
        method="POST",
        url=f"{path}?{query}" if query else path,
        headers={
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        },
        receive=receive,
    )
    return await handlers.handle(request)
