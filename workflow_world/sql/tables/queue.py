"""The messages of the queues."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped

from .base import Base, Blob, Key, Ms, Words, one_of, where

UNFINISHED: Final = "status IN ('pending', 'processing')"


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
            one_of("status", ("pending", "processing", "completed", "failed")), name="status"
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
        Index("ix_queue_claim", "available_at", "message_id", **where("status = 'pending'")),
        Index("ix_queue_leases", "leased_until", "message_id", **where("status = 'processing'")),
        Index("ix_queue_unfinished_of_run", "run_id", "step_id", **where(UNFINISHED)),
        Index("uq_queue_replay", "run_id", unique=True, **where("is_replaying")),
        Index(
            "uq_queue_wake_up", "run_id", unique=True, **where("is_wake_up AND status = 'pending'")
        ),
        Index(
            "uq_queue_key",
            "idempotency_key",
            unique=True,
            **where(f"idempotency_key IS NOT NULL AND {UNFINISHED}"),
        ),
        Index("ix_queue_finished", "status", "processed_at", **where("processed_at IS NOT NULL")),
        Index(
            "ix_queue_finished_key",
            "idempotency_key",
            "processed_at",
            **where("idempotency_key IS NOT NULL AND processed_at IS NOT NULL"),
        ),
        Index(
            "ix_queue_finished_of_run",
            "run_id",
            "step_id",
            "claimed_at",
            **where("processed_at IS NOT NULL AND run_id IS NOT NULL"),
        ),
    )
