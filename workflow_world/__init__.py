"""A World for the Workflow SDK: durable storage, queue and live streams on SQLAlchemy."""

import logging as _logging

from .core.entities import (
    ABSENT,
    Chunk,
    ChunksPage,
    Event,
    EventResult,
    Hook,
    Message,
    Page,
    QueueStats,
    Run,
    Step,
    StreamInfo,
    Wait,
)
from .core.events import NewEvent
from .errors import (
    BackendError,
    ConfigurationError,
    EntityConflictError,
    EventNotFoundError,
    HookNotFoundError,
    HookResumeConflictError,
    InvalidAttributesError,
    InvalidCursorError,
    InvalidQueueNameError,
    InvalidRequestError,
    LeaseLostError,
    MessageNotFoundError,
    NotFoundError,
    PayloadTooLargeError,
    RunExpiredError,
    RunNotFoundError,
    RunNotSupportedError,
    SchemaError,
    StepNotFoundError,
    StreamClosedError,
    ThrottleError,
    TooEarlyError,
    WaitNotFoundError,
    WorldClosedError,
    WorldError,
)
from .factory import create_world, install
from .http import HTTPResponse, QueueContinuation
from .settings import Settings
from .world import World

default = create_world

__version__ = "0.1.0"

__all__ = [
    "ABSENT",
    "BackendError",
    "Chunk",
    "ChunksPage",
    "ConfigurationError",
    "EntityConflictError",
    "Event",
    "EventNotFoundError",
    "EventResult",
    "HTTPResponse",
    "Hook",
    "HookNotFoundError",
    "HookResumeConflictError",
    "InvalidAttributesError",
    "InvalidCursorError",
    "InvalidQueueNameError",
    "InvalidRequestError",
    "LeaseLostError",
    "Message",
    "MessageNotFoundError",
    "NewEvent",
    "NotFoundError",
    "Page",
    "PayloadTooLargeError",
    "QueueContinuation",
    "QueueStats",
    "Run",
    "RunExpiredError",
    "RunNotFoundError",
    "RunNotSupportedError",
    "SchemaError",
    "Settings",
    "Step",
    "StepNotFoundError",
    "StreamClosedError",
    "StreamInfo",
    "ThrottleError",
    "TooEarlyError",
    "Wait",
    "WaitNotFoundError",
    "World",
    "WorldClosedError",
    "WorldError",
    "create_world",
    "default",
    "install",
]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())
