"""Create the six tables.

Revision ID: 0001
Revises:
Create Date: 2026-11-22
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None
branch_labels = ("workflow_world",)
depends_on = None


def letters() -> sa.types.TypeEngine[str]:
    """Compared byte by byte, whatever the database's language."""
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    p = op.get_context().opts.get("table_prefix", "")
    s = op.get_context().opts.get("schema")
    q = f"{s}.{p}" if s else p
    op.create_table(
        f"{p}workflow_runs",
        sa.Column("run_id", letters(), nullable=False),
        sa.Column("status", letters(), nullable=False),
        sa.Column("deployment_id", letters(), nullable=False),
        sa.Column("workflow_name", letters(), nullable=False),
        sa.Column("spec_version", sa.Integer(), nullable=True),
        sa.Column("execution_context", sa.LargeBinary(), nullable=True),
        sa.Column("input", sa.LargeBinary(), nullable=True),
        sa.Column("output", sa.LargeBinary(), nullable=True),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("error_code", letters(), nullable=True),
        sa.Column("attributes", letters(), nullable=False),
        sa.Column("encryption_public_key", letters(), nullable=True),
        sa.Column("expired_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("last_claim_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)",
            name=op.f(f"ck_{p}workflow_runs_ended"),
        ),
        sa.CheckConstraint(
            "error IS NULL OR status = 'failed'", name=op.f(f"ck_{p}workflow_runs_error")
        ),
        sa.CheckConstraint(
            "output IS NULL OR status = 'completed'", name=op.f(f"ck_{p}workflow_runs_output")
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')",
            name=op.f(f"ck_{p}workflow_runs_status"),
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f(f"pk_{p}workflow_runs")),
        schema=s,
    )
    op.create_index(
        f"{p}ix_runs_active",
        f"{p}workflow_runs",
        ["run_id"],
        unique=False,
        sqlite_where=sa.text("completed_at IS NULL"),
        postgresql_where=sa.text("completed_at IS NULL"),
        schema=s,
    )
    op.create_index(
        f"{p}ix_runs_by_name",
        f"{p}workflow_runs",
        ["workflow_name", "created_at", "run_id"],
        unique=False,
        schema=s,
    )
    op.create_index(
        f"{p}ix_runs_by_status",
        f"{p}workflow_runs",
        ["status", "created_at", "run_id"],
        unique=False,
        schema=s,
    )
    op.create_index(
        f"{p}ix_runs_newest", f"{p}workflow_runs", ["created_at", "run_id"], unique=False, schema=s
    )
    op.create_table(
        f"{p}workflow_steps",
        sa.Column("run_id", letters(), nullable=False),
        sa.Column("step_id", letters(), nullable=False),
        sa.Column("step_name", letters(), nullable=False),
        sa.Column("status", letters(), nullable=False),
        sa.Column("input", sa.LargeBinary(), nullable=True),
        sa.Column("output", sa.LargeBinary(), nullable=True),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("retry_after", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("spec_version", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)",
            name=op.f(f"ck_{p}workflow_steps_ended"),
        ),
        sa.CheckConstraint(
            "output IS NULL OR status = 'completed'", name=op.f(f"ck_{p}workflow_steps_output")
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'running', 'completed', 'failed', 'cancelled')",
            name=op.f(f"ck_{p}workflow_steps_status"),
        ),
        sa.CheckConstraint("attempt >= 0", name=op.f(f"ck_{p}workflow_steps_attempt")),
        sa.ForeignKeyConstraint(
            ["run_id"],
            [f"{q}workflow_runs.run_id"],
            name=op.f(f"fk_{p}workflow_steps_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "step_id", name=op.f(f"pk_{p}workflow_steps")),
        schema=s,
    )
    op.create_index(
        f"{p}ix_steps_by_id",
        f"{p}workflow_steps",
        ["step_id", "created_at"],
        unique=False,
        schema=s,
    )
    op.create_index(
        f"{p}ix_steps_open",
        f"{p}workflow_steps",
        ["run_id", "step_id"],
        unique=False,
        sqlite_where=sa.text("completed_at IS NULL"),
        postgresql_where=sa.text("completed_at IS NULL"),
        schema=s,
    )
    op.create_table(
        f"{p}workflow_events",
        sa.Column("run_id", letters(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", letters(), nullable=False),
        sa.Column("event_type", letters(), nullable=False),
        sa.Column("correlation_id", letters(), nullable=True),
        sa.Column("spec_version", sa.Integer(), nullable=False),
        sa.Column("event_data", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=True),
        sa.Column("resume_id", letters(), nullable=True),
        sa.Column("payload_digest", letters(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "due_at IS NULL OR event_type = 'wait_created'", name=op.f(f"ck_{p}workflow_events_due")
        ),
        sa.CheckConstraint("position >= 1", name=op.f(f"ck_{p}workflow_events_position")),
        sa.ForeignKeyConstraint(
            ["run_id"],
            [f"{q}workflow_runs.run_id"],
            name=op.f(f"fk_{p}workflow_events_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "position", name=op.f(f"pk_{p}workflow_events")),
        schema=s,
    )
    op.create_index(
        f"{p}ix_events_by_correlation",
        f"{p}workflow_events",
        ["correlation_id", "created_at", "run_id", "position"],
        unique=False,
        schema=s,
    )
    op.create_index(
        f"{p}ix_events_open_waits",
        f"{p}workflow_events",
        ["run_id", "due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
        schema=s,
    )
    op.create_index(
        f"{p}ix_events_waits",
        f"{p}workflow_events",
        ["run_id", "created_at", "correlation_id"],
        unique=False,
        sqlite_where=sa.text("event_type = 'wait_created'"),
        postgresql_where=sa.text("event_type = 'wait_created'"),
        schema=s,
    )
    op.create_index(
        f"{p}uq_events_once",
        f"{p}workflow_events",
        ["run_id", "correlation_id", "event_type"],
        unique=True,
        sqlite_where=sa.text(
            "event_type IN ('step_created', 'wait_created', 'wait_completed', 'hook_created', 'hook_conflict', 'hook_disposed', 'attr_set') AND correlation_id IS NOT NULL"
        ),
        postgresql_where=sa.text(
            "event_type IN ('step_created', 'wait_created', 'wait_completed', 'hook_created', 'hook_conflict', 'hook_disposed', 'attr_set') AND correlation_id IS NOT NULL"
        ),
        schema=s,
    )
    op.create_index(
        f"{p}uq_events_resume",
        f"{p}workflow_events",
        ["run_id", "resume_id"],
        unique=True,
        sqlite_where=sa.text("resume_id IS NOT NULL"),
        postgresql_where=sa.text("resume_id IS NOT NULL"),
        schema=s,
    )
    op.create_index(
        f"{p}uq_events_step_outcome",
        f"{p}workflow_events",
        ["run_id", "correlation_id"],
        unique=True,
        sqlite_where=sa.text("event_type IN ('step_completed', 'step_failed')"),
        postgresql_where=sa.text("event_type IN ('step_completed', 'step_failed')"),
        schema=s,
    )
    op.create_table(
        f"{p}workflow_hooks",
        sa.Column("run_id", letters(), nullable=False),
        sa.Column("hook_id", letters(), nullable=False),
        sa.Column("token", letters(), nullable=False),
        sa.Column("owner_id", letters(), nullable=False),
        sa.Column("project_id", letters(), nullable=False),
        sa.Column("environment", letters(), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("spec_version", sa.Integer(), nullable=True),
        sa.Column("is_webhook", sa.Boolean(), nullable=True),
        sa.Column("is_system", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"],
            [f"{q}workflow_runs.run_id"],
            name=op.f(f"fk_{p}workflow_hooks_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "hook_id", name=op.f(f"pk_{p}workflow_hooks")),
        schema=s,
    )
    op.create_index(
        f"{p}ix_hooks_by_id",
        f"{p}workflow_hooks",
        ["hook_id", "created_at"],
        unique=False,
        schema=s,
    )
    op.create_index(
        f"{p}ix_hooks_oldest",
        f"{p}workflow_hooks",
        ["created_at", "run_id", "hook_id"],
        unique=False,
        schema=s,
    )
    op.create_index(f"{p}uq_hooks_token", f"{p}workflow_hooks", ["token"], unique=True, schema=s)
    op.create_table(
        f"{p}queue_messages",
        sa.Column("message_id", letters(), nullable=False),
        sa.Column("queue_name", letters(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("status", letters(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", letters(), nullable=True),
        sa.Column("available_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_token", letters(), nullable=True),
        sa.Column("leased_until", sa.BigInteger(), nullable=True),
        sa.Column("claimed_at", sa.BigInteger(), nullable=True),
        sa.Column("run_id", letters(), nullable=True),
        sa.Column("step_id", letters(), nullable=True),
        sa.Column("is_wake_up", sa.Boolean(), nullable=False),
        sa.Column("deployment_id", letters(), nullable=True),
        sa.Column("headers", letters(), nullable=True),
        sa.Column("last_error", letters(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("processed_at", sa.BigInteger(), nullable=True),
        sa.Column("is_replaying", sa.Boolean(), nullable=True),
        sa.CheckConstraint(
            "NOT is_replaying OR status = 'processing'",
            name=op.f(f"ck_{p}queue_messages_replaying"),
        ),
        sa.CheckConstraint(
            "(status = 'processing') = (lease_token IS NOT NULL) AND (lease_token IS NULL) = (leased_until IS NULL)",
            name=op.f(f"ck_{p}queue_messages_lease"),
        ),
        sa.CheckConstraint(
            "(status IN ('completed', 'failed')) = (processed_at IS NOT NULL)",
            name=op.f(f"ck_{p}queue_messages_processed"),
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'processing', 'completed', 'failed')",
            name=op.f(f"ck_{p}queue_messages_status"),
        ),
        sa.CheckConstraint(
            "attempt >= 1 AND deliveries >= 0", name=op.f(f"ck_{p}queue_messages_attempt")
        ),
        sa.PrimaryKeyConstraint("message_id", name=op.f(f"pk_{p}queue_messages")),
        schema=s,
    )
    op.create_index(
        f"{p}ix_queue_claim",
        f"{p}queue_messages",
        ["available_at", "message_id"],
        unique=False,
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
        schema=s,
    )
    op.create_index(
        f"{p}ix_queue_finished",
        f"{p}queue_messages",
        ["status", "processed_at"],
        unique=False,
        sqlite_where=sa.text("processed_at IS NOT NULL"),
        postgresql_where=sa.text("processed_at IS NOT NULL"),
        schema=s,
    )
    op.create_index(
        f"{p}ix_queue_finished_key",
        f"{p}queue_messages",
        ["idempotency_key", "processed_at"],
        unique=False,
        sqlite_where=sa.text("idempotency_key IS NOT NULL AND processed_at IS NOT NULL"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL AND processed_at IS NOT NULL"),
        schema=s,
    )
    op.create_index(
        f"{p}ix_queue_finished_of_run",
        f"{p}queue_messages",
        ["run_id", "step_id", "claimed_at"],
        unique=False,
        sqlite_where=sa.text("processed_at IS NOT NULL AND run_id IS NOT NULL"),
        postgresql_where=sa.text("processed_at IS NOT NULL AND run_id IS NOT NULL"),
        schema=s,
    )
    op.create_index(
        f"{p}ix_queue_leases",
        f"{p}queue_messages",
        ["leased_until", "message_id"],
        unique=False,
        sqlite_where=sa.text("status = 'processing'"),
        postgresql_where=sa.text("status = 'processing'"),
        schema=s,
    )
    op.create_index(
        f"{p}ix_queue_unfinished_of_run",
        f"{p}queue_messages",
        ["run_id", "step_id"],
        unique=False,
        sqlite_where=sa.text("status IN ('pending', 'processing')"),
        postgresql_where=sa.text("status IN ('pending', 'processing')"),
        schema=s,
    )
    op.create_index(
        f"{p}uq_queue_key",
        f"{p}queue_messages",
        ["idempotency_key"],
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL AND status IN ('pending', 'processing')"),
        postgresql_where=sa.text(
            "idempotency_key IS NOT NULL AND status IN ('pending', 'processing')"
        ),
        schema=s,
    )
    op.create_index(
        f"{p}uq_queue_replay",
        f"{p}queue_messages",
        ["run_id"],
        unique=True,
        sqlite_where=sa.text("is_replaying"),
        postgresql_where=sa.text("is_replaying"),
        schema=s,
    )
    op.create_index(
        f"{p}uq_queue_wake_up",
        f"{p}queue_messages",
        ["run_id"],
        unique=True,
        sqlite_where=sa.text("is_wake_up AND status = 'pending'"),
        postgresql_where=sa.text("is_wake_up AND status = 'pending'"),
        schema=s,
    )
    op.create_table(
        f"{p}stream_chunks",
        sa.Column("run_id", letters(), nullable=False),
        sa.Column("stream_name", letters(), nullable=False),
        sa.Column("chunk_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("chunk_id", letters(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("is_eof", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("NOT is_eof OR length(data) = 0", name=op.f(f"ck_{p}stream_chunks_eof")),
        sa.CheckConstraint("chunk_index >= 0", name=op.f(f"ck_{p}stream_chunks_chunk_index")),
        sa.PrimaryKeyConstraint(
            "run_id", "stream_name", "chunk_index", name=op.f(f"pk_{p}stream_chunks")
        ),
        schema=s,
    )
    op.create_index(
        f"{p}ix_streams_of_run",
        f"{p}stream_chunks",
        ["run_id", "created_at", "stream_name"],
        unique=False,
        sqlite_where=sa.text("chunk_index = 0"),
        postgresql_where=sa.text("chunk_index = 0"),
        schema=s,
    )
    op.create_index(
        f"{p}uq_streams_close",
        f"{p}stream_chunks",
        ["run_id", "stream_name"],
        unique=True,
        sqlite_where=sa.text("is_eof"),
        postgresql_where=sa.text("is_eof"),
        schema=s,
    )


def downgrade() -> None:
    p = op.get_context().opts.get("table_prefix", "")
    s = op.get_context().opts.get("schema")
    for name in (
        "stream_chunks",
        "queue_messages",
        "workflow_hooks",
        "workflow_events",
        "workflow_steps",
        "workflow_runs",
    ):
        op.drop_table(p + name, schema=s)
