"""The six tables, as SQLAlchemy typed declarative models: the one source of the SQL schema.

Times are milliseconds since 1970 in BIGINT, payloads are CBOR in BLOB/BYTEA, maps of text are
JSON in TEXT. Indexes are named after the query they serve. The constraints repeat the rules of
``core``, so that an illegal row cannot be stored even by a bug (design 5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ..core.events import SINGLE_EVENTS, STEP_OUTCOMES
from ..errors import ConfigurationError

NAMING: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

# Ids are compared byte by byte on every engine, whatever the database's language.
Letters: Final = Text().with_variant(Text(collation="C"), "postgresql")
Key = Annotated[str, mapped_column(Letters, primary_key=True)]
Words = Annotated[str, mapped_column(Letters)]
Ms = Annotated[int, mapped_column(BigInteger)]
Blob = Annotated[bytes, mapped_column(LargeBinary)]


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


_FINAL = ("completed", "failed", "cancelled")
_STATUSES = ("pending", "running", *_FINAL)
_ENDED = f"({_one_of('status', _FINAL)}) = (completed_at IS NOT NULL)"
_SCHEMA: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}")
UNFINISHED: Final = "status IN ('pending', 'processing')"


class WorkflowRun(Base):
    """``last_claim_at`` is kept here only for claims whose message is pruned."""

    __tablename__ = "workflow_runs"

    run_id: Mapped[Key]
    status: Mapped[Words]
    deployment_id: Mapped[Words]
    workflow_name: Mapped[Words]
    spec_version: Mapped[int | None]
    execution_context: Mapped[Blob | None]
    input: Mapped[Blob | None]
    output: Mapped[Blob | None]
    error: Mapped[Blob | None]
    error_code: Mapped[Words | None]
    attributes: Mapped[Words]
    encryption_public_key: Mapped[Words | None]
    expired_at: Mapped[Ms | None]
    started_at: Mapped[Ms | None]
    completed_at: Mapped[Ms | None]
    created_at: Mapped[Ms]
    updated_at: Mapped[Ms]
    last_claim_at: Mapped[Ms | None]

    __table_args__ = (
        CheckConstraint(_one_of("status", _STATUSES), name="status"),
        CheckConstraint(_ENDED, name="ended"),
        CheckConstraint("output IS NULL OR status = 'completed'", name="output"),
        CheckConstraint("error IS NULL OR status = 'failed'", name="error"),
        Index("ix_runs_newest", "created_at", "run_id"),
        Index("ix_runs_by_status", "status", "created_at", "run_id"),
        Index("ix_runs_by_name", "workflow_name", "created_at", "run_id"),
        Index(
            "ix_runs_active",
            "run_id",
            sqlite_where=text("completed_at IS NULL"),
            postgresql_where=text("completed_at IS NULL"),
        ),
    )


class WorkflowStep(Base):
    __tablename__ = "workflow_steps"

    run_id: Mapped[str] = mapped_column(
        Letters, ForeignKey("workflow_runs.run_id", ondelete="CASCADE"), primary_key=True
    )
    step_id: Mapped[Key]
    step_name: Mapped[Words]
    status: Mapped[Words]
    input: Mapped[Blob | None]
    output: Mapped[Blob | None]
    error: Mapped[Blob | None]
    attempt: Mapped[int]
    started_at: Mapped[Ms | None]
    completed_at: Mapped[Ms | None]
    retry_after: Mapped[Ms | None]
    created_at: Mapped[Ms]
    updated_at: Mapped[Ms]
    spec_version: Mapped[int | None]

    __table_args__ = (
        CheckConstraint(_one_of("status", _STATUSES), name="status"),
        CheckConstraint(_ENDED, name="ended"),
        CheckConstraint("output IS NULL OR status = 'completed'", name="output"),
        CheckConstraint("attempt >= 0", name="attempt"),
        Index("ix_steps_by_id", "step_id", "created_at"),
        Index(
            "ix_steps_open",
            "run_id",
            "step_id",
            sqlite_where=text("completed_at IS NULL"),
            postgresql_where=text("completed_at IS NULL"),
        ),
    )


ONCE: Final = _one_of("event_type", SINGLE_EVENTS) + " AND correlation_id IS NOT NULL"
_OUTCOME = _one_of("event_type", STEP_OUTCOMES)


class WorkflowEvent(Base):
    """The log. ``due_at`` is set while the row is an open wait; nothing else ever changes."""

    __tablename__ = "workflow_events"

    run_id: Mapped[str] = mapped_column(
        Letters, ForeignKey("workflow_runs.run_id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[Words]
    event_type: Mapped[Words]
    correlation_id: Mapped[Words | None]
    spec_version: Mapped[int]
    event_data: Mapped[Blob | None]
    created_at: Mapped[Ms]
    occurred_at: Mapped[Ms | None]
    resume_id: Mapped[Words | None]
    payload_digest: Mapped[Words | None]
    due_at: Mapped[Ms | None]

    __table_args__ = (
        CheckConstraint("position >= 1", name="position"),
        CheckConstraint("due_at IS NULL OR event_type = 'wait_created'", name="due"),
        Index(
            "uq_events_once",
            "run_id",
            "correlation_id",
            "event_type",
            unique=True,
            sqlite_where=text(ONCE),
            postgresql_where=text(ONCE),
        ),
        Index(
            "uq_events_step_outcome",
            "run_id",
            "correlation_id",
            unique=True,
            sqlite_where=text(_OUTCOME),
            postgresql_where=text(_OUTCOME),
        ),
        Index(
            "uq_events_resume",
            "run_id",
            "resume_id",
            unique=True,
            sqlite_where=text("resume_id IS NOT NULL"),
            postgresql_where=text("resume_id IS NOT NULL"),
        ),
        Index("ix_events_by_correlation", "correlation_id", "created_at", "run_id", "position"),
        Index(
            "ix_events_waits",
            "run_id",
            "created_at",
            "correlation_id",
            sqlite_where=text("event_type = 'wait_created'"),
            postgresql_where=text("event_type = 'wait_created'"),
        ),
        Index(
            "ix_events_open_waits",
            "run_id",
            "due_at",
            sqlite_where=text("due_at IS NOT NULL"),
            postgresql_where=text("due_at IS NOT NULL"),
        ),
    )


class WorkflowHook(Base):
    __tablename__ = "workflow_hooks"

    run_id: Mapped[str] = mapped_column(
        Letters, ForeignKey("workflow_runs.run_id", ondelete="CASCADE"), primary_key=True
    )
    hook_id: Mapped[Key]
    token: Mapped[Words]
    owner_id: Mapped[Words]
    project_id: Mapped[Words]
    environment: Mapped[Words]
    metadata_: Mapped[Blob | None] = mapped_column("metadata")
    created_at: Mapped[Ms]
    spec_version: Mapped[int | None]
    is_webhook: Mapped[bool | None]
    is_system: Mapped[bool | None]

    __table_args__ = (
        Index("uq_hooks_token", "token", unique=True),
        Index("ix_hooks_by_id", "hook_id", "created_at"),
        Index("ix_hooks_oldest", "created_at", "run_id", "hook_id"),
    )


class QueueMessage(Base):
    """``is_replaying`` marks the one claimed message of a run that ``serialize_runs`` let through,
    on engines where two claims may look at the same time."""

    __tablename__ = "queue_messages"

    message_id: Mapped[Key]
    queue_name: Mapped[Words]
    payload: Mapped[Blob]
    status: Mapped[Words]
    attempt: Mapped[int]
    max_attempts: Mapped[int]
    deliveries: Mapped[int]
    idempotency_key: Mapped[Words | None]
    available_at: Mapped[Ms]
    lease_token: Mapped[Words | None]
    leased_until: Mapped[Ms | None]
    claimed_at: Mapped[Ms | None]
    run_id: Mapped[Words | None]
    step_id: Mapped[Words | None]
    is_wake_up: Mapped[bool]
    deployment_id: Mapped[Words | None]
    headers: Mapped[Words | None]
    last_error: Mapped[Words | None]
    created_at: Mapped[Ms]
    updated_at: Mapped[Ms]
    processed_at: Mapped[Ms | None]
    is_replaying: Mapped[bool | None]

    __table_args__ = (
        CheckConstraint(
            _one_of("status", ("pending", "processing", "completed", "failed")), name="status"
        ),
        CheckConstraint(
            "(status = 'processing') = (lease_token IS NOT NULL)"
            " AND (lease_token IS NULL) = (leased_until IS NULL)",
            name="lease",
        ),
        CheckConstraint("attempt >= 1 AND deliveries >= 0", name="attempt"),
        CheckConstraint("NOT is_replaying OR status = 'processing'", name="replaying"),
        CheckConstraint(
            "(status IN ('completed', 'failed')) = (processed_at IS NOT NULL)", name="processed"
        ),
        Index(
            "ix_queue_claim",
            "available_at",
            "message_id",
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
        Index(
            "ix_queue_leases",
            "leased_until",
            "message_id",
            sqlite_where=text("status = 'processing'"),
            postgresql_where=text("status = 'processing'"),
        ),
        Index(
            "ix_queue_unfinished_of_run",
            "run_id",
            "step_id",
            sqlite_where=text(UNFINISHED),
            postgresql_where=text(UNFINISHED),
        ),
        Index(
            "uq_queue_replay",
            "run_id",
            unique=True,
            sqlite_where=text("is_replaying"),
            postgresql_where=text("is_replaying"),
        ),
        Index(
            "uq_queue_wake_up",
            "run_id",
            unique=True,
            sqlite_where=text("is_wake_up AND status = 'pending'"),
            postgresql_where=text("is_wake_up AND status = 'pending'"),
        ),
        Index(
            "uq_queue_key",
            "idempotency_key",
            unique=True,
            sqlite_where=text(f"idempotency_key IS NOT NULL AND {UNFINISHED}"),
            postgresql_where=text(f"idempotency_key IS NOT NULL AND {UNFINISHED}"),
        ),
        Index(
            "ix_queue_finished",
            "status",
            "processed_at",
            sqlite_where=text("processed_at IS NOT NULL"),
            postgresql_where=text("processed_at IS NOT NULL"),
        ),
        Index(
            "ix_queue_finished_key",
            "idempotency_key",
            "processed_at",
            sqlite_where=text("idempotency_key IS NOT NULL AND processed_at IS NOT NULL"),
            postgresql_where=text("idempotency_key IS NOT NULL AND processed_at IS NOT NULL"),
        ),
        Index(
            "ix_queue_finished_of_run",
            "run_id",
            "step_id",
            "claimed_at",
            sqlite_where=text("processed_at IS NOT NULL AND run_id IS NOT NULL"),
            postgresql_where=text("processed_at IS NOT NULL AND run_id IS NOT NULL"),
        ),
    )


class StreamChunk(Base):
    """The close of a stream is its last row, with ``is_eof`` and no data."""

    __tablename__ = "stream_chunks"

    run_id: Mapped[Key]
    stream_name: Mapped[Key]
    chunk_index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    chunk_id: Mapped[Words]
    data: Mapped[Blob]
    is_eof: Mapped[bool]
    created_at: Mapped[Ms]

    __table_args__ = (
        CheckConstraint("chunk_index >= 0", name="chunk_index"),
        CheckConstraint("NOT is_eof OR length(data) = 0", name="eof"),
        Index(
            "uq_streams_close",
            "run_id",
            "stream_name",
            unique=True,
            sqlite_where=text("is_eof"),
            postgresql_where=text("is_eof"),
        ),
        Index(
            "ix_streams_of_run",
            "run_id",
            "created_at",
            "stream_name",
            sqlite_where=text("chunk_index = 0"),
            postgresql_where=text("chunk_index = 0"),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables under one name prefix, in one schema (None: where the connection looks)."""

    prefix: str
    schema: str | None
    metadata: MetaData
    runs: Table
    steps: Table
    events: Table
    hooks: Table
    messages: Table
    chunks: Table


def checked_schema(schema: str) -> str:
    """Raises: ConfigurationError for a schema name that would need quoting."""
    if (
        not isinstance(schema, str)  # pyright: ignore[reportUnnecessaryIsInstance]
        or _SCHEMA.fullmatch(schema) is None
        or schema.lower().startswith("pg_")
    ):
        raise ConfigurationError(
            "schema must be up to 63 lower-case letters, digits and underscores, starting with a "
            "letter, and not with pg_"
        )
    return schema


def checked_prefix(prefix: str) -> str:
    """Raises: ConfigurationError for a prefix that would need quoting, or that SQLite reserves."""
    if prefix and (
        not isinstance(prefix, str)  # pyright: ignore[reportUnnecessaryIsInstance]
        or _PREFIX.fullmatch(prefix) is None
        or prefix.lower().startswith("sqlite_")
    ):
        raise ConfigurationError(
            "table_prefix must be up to 31 letters, digits and underscores, starting with a "
            "letter, and not with sqlite_"
        )
    return prefix


@lru_cache(maxsize=32)
def tables(prefix: str = "", schema: str | None = None) -> Tables:
    """The six tables, each name and index name prefixed: two Worlds can share one database."""
    metadata = Base.metadata
    if prefix or schema:
        metadata = MetaData(naming_convention=NAMING, schema=schema)
        for table in Base.metadata.sorted_tables:
            _copy(table, metadata, prefix)
    found = {table.name: table for table in metadata.tables.values()}
    return Tables(
        prefix=prefix,
        schema=schema,
        metadata=metadata,
        runs=found[f"{prefix}workflow_runs"],
        steps=found[f"{prefix}workflow_steps"],
        events=found[f"{prefix}workflow_events"],
        hooks=found[f"{prefix}workflow_hooks"],
        messages=found[f"{prefix}queue_messages"],
        chunks=found[f"{prefix}stream_chunks"],
    )


def _copy(table: Table, metadata: MetaData, prefix: str) -> None:
    """``Table.to_metadata`` would keep index names and foreign keys, which are per database."""
    copy = Table(
        prefix + table.name,
        metadata,
        *(_column(column, prefix, metadata.schema) for column in table.columns),
        *(
            CheckConstraint(constraint.sqltext, name=_short(constraint))
            for constraint in table.constraints
            if isinstance(constraint, CheckConstraint)
        ),
    )
    for index in table.indexes:
        where = index.dialect_options["sqlite"]["where"]
        Index(
            f"{prefix}{index.name}",
            *(copy.columns[column.name] for column in index.columns),
            unique=index.unique,
            sqlite_where=where,
            postgresql_where=where,
        )


def _column(column: Column[Any], prefix: str, schema: str | None) -> Column[Any]:
    keys = [
        ForeignKey(
            f"{schema}.{prefix}{key.target_fullname}"
            if schema
            else f"{prefix}{key.target_fullname}",
            ondelete=key.ondelete,
        )
        for key in column.foreign_keys
    ]
    return Column(
        column.name,
        column.type,
        *keys,
        primary_key=column.primary_key,
        nullable=column.nullable,
        autoincrement=column.autoincrement,
    )


def _short(constraint: CheckConstraint) -> str:
    """The name before the naming convention, which the copy applies anew."""
    name = str(constraint.name)
    return name.removeprefix(f"ck_{constraint.table.name}_")
