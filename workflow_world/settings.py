"""Every option of a World: its environment variable, default and bounds, in one place (spec 6).

Priority: an argument that is not None, then a set and non-empty environment variable, then the
default. The environment is read when the World is created.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias, cast

from .core.queue_names import workflow_queue
from .errors import ConfigurationError

logger = logging.getLogger("workflow_world.settings")

Delivery: TypeAlias = Literal["auto", "http", "inprocess"]
RunKey: TypeAlias = Callable[..., bytes | Awaitable[bytes | None] | None]
"""Called with a run id and ``deployment_id=``; the 32 bytes of its key, or None: no encryption."""

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_LONGEST_S: Final = 10**10
_LONGEST_MS: Final = 10**13
"""Three centuries: what a date can still be moved by."""
_warned: set[str] = set()


def _number(
    default: float | None, env: str | None = None, *, low: float = 0, high: float = _LONGEST_MS
) -> Any:
    return field(default=default, metadata={"env": env, "low": low, "high": high})


def _switch(default: bool, env: str | None = None) -> Any:
    return field(default=default, metadata={"env": env})


def _text(default: str | None, *env: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"env": env, "choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options common to all backends (spec 6.2). Durations carry their unit in the name.

    Attributes:
        base_url: where HTTP callbacks go; None: ``WORKFLOW_SERVICE_URL``, else
            ``http://localhost:{PORT}`` with PORT 3000, looked up at each delivery.
        concurrency: messages in processing per worker.
        max_retries: attempts per message.
        lock_duration_ms: the lease; extended every third of it.
        max_deliveries: claims before a message that kills its worker is given up.
        recover_active_runs: the extra row of the sweep at start (spec 4.10).
        serialize_runs: one replay of a run at a time.
        fail_exhausted_runs: a message without attempts left fails its run.
        delivery: ``auto`` calls handlers registered in this process and HTTP for the rest.
        http_timeout_s: total for a callback; None: no limit.
        content_type: of callback bodies.
        max_delay_s: longest delay of a continuation.
        run_key: encryption keys by run; None: payloads are not encrypted.
        recovery_grace_ms: the sweep leaves rows alone that were touched since.
    """

    base_url: str | None = field(default=None, repr=False, metadata={"choices": ()})
    concurrency: int = _number(20, "WORKFLOW_CONCURRENCY", low=1, high=10_000)
    max_retries: int = _number(3, "WORKFLOW_MAX_RETRIES", low=1, high=1_000)
    poll_interval_ms: int = _number(100, "WORKFLOW_POLL_INTERVAL_MS", low=1, high=3_600_000)
    lock_duration_ms: int = _number(30_000, "WORKFLOW_LOCK_DURATION_MS", low=50, high=86_400_000)
    max_deliveries: int = _number(48, low=1, high=1_000_000)
    shutdown_timeout_ms: int = _number(30_000)
    recovery_interval_ms: int = _number(60_000, low=10)
    recovery_grace_ms: int = _number(30_000)
    recover_active_runs: bool = _switch(True, "WORKFLOW_RECOVER_ACTIVE_RUNS")
    serialize_runs: bool = _switch(True)
    fail_exhausted_runs: bool = _switch(True)
    completed_retention_s: float = _number(3_600.0, high=_LONGEST_S)
    failed_retention_s: float = _number(604_800.0, high=_LONGEST_S)
    delivery: Delivery = _text("auto", choices=("auto", "http", "inprocess"))
    http_timeout_s: float | None = _number(None, low=0.001, high=math.inf)
    content_type: str = _text("application/json", choices=("application/json", "application/cbor"))
    deployment_id: str | None = _text(None, "WORKFLOW_DEPLOYMENT_ID", "DEPLOYMENT_ID")
    environment: str | None = _text(None, "WORKFLOW_ENVIRONMENT")
    owner_id: str = _text("default")
    project_id: str = _text("default")
    queue_namespace: str | None = _text(None, "WORKFLOW_QUEUE_NAMESPACE")
    max_delay_s: float = _number(82_800.0, high=_LONGEST_S)
    idempotency_ttl_ms: int = _number(5_000)
    run_key: RunKey | None = field(default=None, repr=False)
    debug: str | None = _text(None, "WORKFLOW_DEBUG")

    def __post_init__(self) -> None:
        if self.queue_namespace is not None:
            # Raises for a namespace outside the grammar, before anything runs.
            from .core.queue_names import parse

            parse(workflow_queue("x", self.queue_namespace))


def resolve(
    options: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> tuple[Settings, dict[str, object]]:
    """Settings from options and environment.

    Returns: the settings, and the options that they do not know (the backend's own).
    Raises: ConfigurationError (a ValueError) for an option that cannot be.
    """
    env = os.environ if environ is None else environ
    rest = {key: value for key, value in options.items() if value is not None}
    values: dict[str, Any] = {}
    for spec in fields(Settings):
        given = rest.pop(spec.name, None)
        if given is not None:
            values[spec.name] = _checked(spec.name, given, spec.metadata, spec.default)
            continue
        found = _from_env(spec.metadata, spec.default, env)
        if found is not None:
            values[spec.name] = found
    return Settings(**values), rest


def env_text(names: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    """The first of the variables that is set and not empty."""
    return next((environ[name] for name in names if environ.get(name)), None)


def env_switch(name: str, environ: Mapping[str, str]) -> bool | None:
    """A boolean variable; an unreadable one is ignored with one warning per process."""
    raw = environ.get(name)
    if not raw:
        return None
    text = raw.strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    _warn(name, raw)
    return None


def _from_env(metadata: Mapping[str, Any], default: object, env: Mapping[str, str]) -> object:
    names = metadata.get("env")
    if not names:
        return None
    if isinstance(names, tuple):
        return env_text(cast("tuple[str, ...]", names), env)
    if isinstance(default, bool):
        return env_switch(names, env)
    raw = env.get(names)
    if not raw:
        return None
    try:
        number = float(raw)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        _warn(names, raw)
        return None
    bounded = min(max(number, metadata["low"]), metadata["high"])
    return int(bounded) if isinstance(default, int) else bounded


def _checked(name: str, value: object, metadata: Mapping[str, Any], default: object) -> object:
    if "low" in metadata:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise ConfigurationError(f"{name} must be a number, not {value!r:.60}")
        if not metadata["low"] <= value <= metadata["high"]:
            raise ConfigurationError(
                f"{name} must be from {metadata['low']} to {metadata['high']}, not {value!r:.60}"
            )
        return int(value) if isinstance(default, int) else value
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigurationError(f"{name} must be True or False, not {value!r:.60}")
        return value
    if name == "run_key":
        if not callable(value):
            raise ConfigurationError("run_key must be callable")
        return value
    if name == "debug" and isinstance(value, bool):
        return "1" if value else None
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be non-empty text, not {value!r:.60}")
    choices = metadata.get("choices")
    if choices and value not in choices:
        raise ConfigurationError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def _warn(name: str, raw: str) -> None:
    if name not in _warned:
        _warned.add(name)
        logger.warning("Ignoring environment variable %s: cannot read %.40r", name, raw)
