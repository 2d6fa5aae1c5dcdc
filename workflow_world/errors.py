"""The whole exception tree. Everything this package raises on purpose derives from ``WorldError``.

::

    WorldError                      status as named, 500 by default; code says what happened
    ├── InvalidRequestError         400  the caller asked for something malformed
    │   ├── InvalidAttributesError  400
    │   ├── InvalidQueueNameError   400  also a ValueError
    │   └── InvalidCursorError      400
    ├── NotFoundError               404
    │   ├── RunNotFoundError, StepNotFoundError, EventNotFoundError,
    │   ├── WaitNotFoundError, MessageNotFoundError
    │   └── HookNotFoundError            carries token or hook_id
    ├── EntityConflictError         409  someone else won, or the entity is final
    │   └── HookResumeConflictError 409
    ├── StreamClosedError           409  deliberately not an EntityConflictError
    ├── RunExpiredError             410
    ├── PayloadTooLargeError        413
    ├── RunNotSupportedError        422  written by a newer SDK
    ├── TooEarlyError               425  retry_after, whole seconds
    ├── ThrottleError               429  retry_after, whole seconds
    ├── SchemaError                 500  the database is older, newer or not ours
    ├── ConfigurationError          500  also a ValueError: a URL or option that cannot work
    ├── BackendError                500  code BACKEND: the database failed
    └── WorldClosedError            503

The SDK adapter (``workflow_world.vercel``) raises subclasses of these that also derive from the
SDK's own classes, so both spellings of ``except`` work there. Source: spec 7.
"""

from __future__ import annotations

from typing import Final

OUTAGE_CODES: Final = frozenset({"BACKEND", "UNKNOWN_OUTCOME"})
"""``code`` of a BackendError that says nothing of what is stored: the same may succeed later."""


class WorldError(Exception):
    """Base of every error of this package.

    Attributes:
        status: the HTTP status that says the same thing.
        code: a stable upper-case word for programs, or None.
    """

    default_status = 500

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = self.default_status if status is None else status
        self.code = code


class InvalidRequestError(WorldError):
    default_status = 400


class InvalidAttributesError(InvalidRequestError):
    """A run attribute breaks a rule of spec 2.9; nothing was written."""


class InvalidQueueNameError(InvalidRequestError, ValueError):
    """A queue name outside the grammar of spec 4.1; nothing was stored."""


class InvalidCursorError(InvalidRequestError):
    """A cursor that is garbled, or that belongs to another list, filter or order."""


class NotFoundError(WorldError):
    default_status = 404


class RunNotFoundError(NotFoundError):
    def __init__(self, run_id: str) -> None:
        super().__init__(f"Run {run_id!r} not found")
        self.run_id = run_id


class StepNotFoundError(NotFoundError):
    def __init__(self, step_id: str, run_id: str | None = None) -> None:
        where = "" if run_id is None else f" in run {run_id!r}"
        super().__init__(f"Step {step_id!r} not found{where}")
        self.step_id, self.run_id = step_id, run_id


class EventNotFoundError(NotFoundError):
    def __init__(self, run_id: str, event_id: str) -> None:
        super().__init__(f"Event {event_id!r} not found in run {run_id!r}")
        self.run_id, self.event_id = run_id, event_id


class WaitNotFoundError(NotFoundError):
    def __init__(self, run_id: str, wait_id: str) -> None:
        super().__init__(f"Wait {wait_id!r} not found in run {run_id!r}")
        self.run_id, self.wait_id = run_id, wait_id


class MessageNotFoundError(NotFoundError):
    def __init__(self, message_id: str) -> None:
        super().__init__(f"Message {message_id!r} not found")
        self.message_id = message_id


class HookNotFoundError(NotFoundError):
    """No live hook has this token or id (spec 2.7)."""

    def __init__(self, *, token: str | None = None, hook_id: str | None = None) -> None:
        if hook_id is not None:
            message = f"Hook {hook_id!r} not found"
        else:
            message = f"Hook not found for token {token!r}"
        super().__init__(message)
        self.token, self.hook_id = token, hook_id


class EntityConflictError(WorldError):
    """The entity exists already, or is in a final status; the log is unchanged."""

    default_status = 409


class HookResumeConflictError(EntityConflictError):
    """A resume id that already stands for another hook or another payload (spec 2.8)."""


class LeaseLostError(EntityConflictError):
    """A delivery wrote after its lease had ended and another had begun: that one goes on."""

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"The lease of message {message_id!r} was lost: another delivery of it goes on",
            code="LEASE_LOST",
        )
        self.message_id = message_id


class StreamClosedError(WorldError):
    """A write to a closed stream (spec 5.4)."""

    default_status = 409

    def __init__(self, run_id: str, name: str) -> None:
        super().__init__(f"Stream {name!r} of run {run_id!r} is closed", code="STREAM_CLOSED")
        self.run_id, self.name = run_id, name


class RunExpiredError(WorldError):
    default_status = 410


class PayloadTooLargeError(WorldError):
    default_status = 413


class RunNotSupportedError(WorldError):
    """The run was written by an SDK newer than this package understands."""

    default_status = 422

    def __init__(self, run_id: str, run_spec_version: int, supported: int) -> None:
        super().__init__(
            f"Run {run_id!r} has spec version {run_spec_version}, the highest supported is "
            f"{supported}: upgrade workflow-world"
        )
        self.run_id, self.run_spec_version, self.supported = run_id, run_spec_version, supported


class TooEarlyError(WorldError):
    """A step was started before its ``retryAfter``.

    Attributes:
        retry_after: whole seconds left, rounded up, at least 1.
    """

    default_status = 425

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ThrottleError(WorldError):
    default_status = 429

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SchemaError(WorldError):
    """The database's schema is missing, older, newer or somebody else's; nothing was altered."""


class ConfigurationError(WorldError, ValueError):
    """A database URL or an option that cannot work; says what to change."""


class BackendError(WorldError):
    """The database failed. Nothing was written unless ``code`` is ``UNKNOWN_OUTCOME``."""

    def __init__(self, message: str, *, code: str = "BACKEND") -> None:
        super().__init__(message, code=code)


class WorldClosedError(WorldError):
    default_status = 503

    def __init__(self, message: str = "This World is closed") -> None:
        super().__init__(message)
