"""``World``: runs, steps, events, hooks, waits, queue and streams over one backend."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .api.context import Context
from .api.entities import Hooks, Steps, Waits
from .api.events import Events
from .api.messages import Messages
from .api.runs import Runs
from .api.streams import Streams
from .backend import Backend
from .clock import SYSTEM_CLOCK, Clock
from .core.queue_names import check_prefix
from .http import HTTPHandler, QueueHandler
from .settings import Settings
from .streams.reader import Readers
from .worker.asgi import AsgiApp, asgi_app
from .worker.handlers import Handlers
from .worker.worker import Worker


class World:
    """Durable storage, queue and streams for workflow runs. Made by ``create_world``.

    Creating one does no I/O; the first operation connects and migrates. ``start`` or
    ``async with`` begins to deliver messages; everything else works without.
    """

    def __init__(
        self,
        backend: Backend,
        settings: Settings,
        *,
        clock: Clock = SYSTEM_CLOCK,
        default_deployment_id: str = "dpl_sql",
        url: str | None = None,
    ) -> None:
        self._backend = backend
        self._url = url
        self.settings = settings
        self._deployment_id = settings.deployment_id or default_deployment_id
        self._context = Context(backend, settings, clock)
        self._readers = Readers(backend, clock)
        self.events = Events(self._context)
        self.runs = Runs(self._context, self.events)
        self.steps = Steps(self._context)
        self.hooks = Hooks(self._context)
        self.waits = Waits(self._context)
        self.messages = Messages(self._context)
        self.streams = Streams(self._context, self._readers)
        self._handlers = Handlers()
        self._worker = Worker(self._context, self.messages, self._handlers)
        self.messages.enqueuer = self._worker

    def __repr__(self) -> str:
        return f"<World on {self._backend.capabilities.name}>"

    @property
    def url(self) -> str | None:
        """The URL that ``create_world`` made it from, without secrets."""
        return self._url

    @property
    def backend(self) -> Backend:
        """The backend underneath; the seam for tests and tooling."""
        return self._backend

    @property
    def clock(self) -> Clock:
        """Where this World takes the time from: the one given to ``create_world``."""
        return self._context.clock

    async def queue(
        self,
        name: str,
        message: object,
        *,
        idempotency_key: str | None = None,
        delay_seconds: float | None = None,
        deployment_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Enqueue a message; durable when it returns (spec 4.4).

        Args:
            name: a queue name of spec 4.1, such as ``__wkf_workflow_greet``.
            message: any JSON-like value, bytes and datetimes included.
            idempotency_key: while an unfinished message holds this key, and a short time after
                it completed, its id is returned instead.
            delay_seconds: not delivered before; fractions count, negative means 0.
            deployment_id, headers: carried along; headers go with an HTTP callback.

        Returns: the message id, ``msg_…``.
        Raises: InvalidQueueNameError, InvalidRequestError, WorldClosedError, BackendError.
        """
        return await self.messages.enqueue(
            name,
            message,
            idempotency_key=idempotency_key,
            delay_seconds=delay_seconds,
            deployment_id=deployment_id,
            headers=headers,
        )

    def create_queue_handler(self, prefix: str, handler: QueueHandler) -> HTTPHandler:
        """Register a handler for the queues of ``prefix`` in this process, and return the HTTP
        handler for callbacks to it (spec 4.12, 4.13).

        Needs no event loop and no database. The same prefix again replaces the handler.

        Raises: InvalidQueueNameError when no queue can have this prefix.
        """
        http_handler = self._handlers.register(check_prefix(prefix), handler)
        self._worker.wake()
        return http_handler

    @property
    def is_closed(self) -> bool:
        return self._context.closed

    @property
    def handled_prefixes(self) -> tuple[str, ...]:
        """The queue-name prefixes that have a handler in this process."""
        return self._handlers.prefixes

    async def start(self) -> None:
        """Start the worker: recover, then deliver messages until ``close``. Idempotent."""
        await self._worker.start()

    async def close(self) -> None:
        """Stop claiming, wait for handlers up to ``shutdown_timeout_ms``, give the rest back and
        let go of the database (spec 4.15). Idempotent; never raises because of the database."""
        if self._context.closed:
            return
        await self._worker.stop()
        self._context.closed = True
        self._readers.close()
        await self._backend.close()

    aclose = close

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncGenerator[None]:
        """``FastAPI(lifespan=world.lifespan)``: works while the application runs."""
        async with self:
            yield

    def asgi(self) -> AsgiApp:
        """An ASGI application for callbacks: mount it at ``/.well-known/workflow/v1``."""
        return asgi_app(self._handlers)

    async def get_deployment_id(self) -> str:
        """Never empty, and no I/O (spec 8.1)."""
        return self._deployment_id

    def get_environment(self) -> str | None:
        """None switches the SDK's cross-environment check off."""
        return self.settings.environment

    async def run_key(self, run_id: str, *, deployment_id: str | None = None) -> bytes | None:
        """The 32 bytes that encrypt a run's payloads, or None: they are not encrypted."""
        if self.settings.run_key is None:
            return None
        key = self.settings.run_key(run_id, deployment_id=deployment_id)
        return await key if inspect.isawaitable(key) else key

    def write_manifest(self, manifest: Mapping[str, Any]) -> Path | None:
        """Nowhere: a manifest is a file, and this World keeps none."""
        return None
