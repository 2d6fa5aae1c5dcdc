"""Runs, their steps, their logs and their hooks."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from ...core.events import SINGLE_EVENTS, STEP_OUTCOMES
from .base import Base, Blob, Key, Letters, Ms, Words, one_of, where

_FINAL = ("completed", "failed", "cancelled")
_STATUSES = ("pending", "running", *_FINAL)
_ENDED = f"({one_of('status', _FINAL)}) = (completed_at IS NOT NULL)"


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
        CheckConstraint(one_of("status", _STATUSES), name="status"),
        CheckConstraint(_ENDED, name="ended"),
        CheckConstraint("output IS NULL OR status = 'completed'", name="output"),
        CheckConstraint("error IS NULL OR status = 'failed'", name="error"),
        Index("ix_runs_newest", "created_at", "run_id"),
        Index("ix_runs_by_status", "status", "created_at", "run_id"),
        Index("ix_runs_by_name", "workflow_name", "created_at", "run_id"),
        Index("ix_runs_active", "run_id", **where("completed_at IS NULL")),
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
        CheckConstraint(one_of("status", _STATUSES), name="status"),
        CheckConstraint(_ENDED, name="ended"),
        CheckConstraint("output IS NULL OR status = 'completed'", name="output"),
        CheckConstraint("attempt >= 0", name="attempt"),
        Index("ix_steps_by_id", "step_id", "created_at"),
        Index("ix_steps_open", "run_id", "step_id", **where("completed_at IS NULL")),
    )


ONCE: Final = one_of("event_type", SINGLE_EVENTS) + " AND correlation_id IS NOT NULL"
_OUTCOME = one_of("event_type", STEP_OUTCOMES)


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
            "uq_events_once", "run_id", "correlation_id", "event_type", unique=True, **where(ONCE)
        ),
        Index("uq_events_step_outcome", "run_id", "correlation_id", unique=True, **where(_OUTCOME)),
        Index(
            "uq_events_resume", "run_id", "resume_id", unique=True, **where("resume_id IS NOT NULL")
        ),
        Index("ix_events_by_correlation", "correlation_id", "created_at", "run_id", "position"),
        Index(
            "ix_events_waits",
            "run_id",
            "created_at",
            "correlation_id",
            **where("event_type = 'wait_created'"),
        ),
        Index("ix_events_open_waits", "run_id", "due_at", **where("due_at IS NOT NULL")),
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
