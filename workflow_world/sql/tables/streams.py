"""The chunks of the streams."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base, Blob, Key, Ms, Words, where


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
        Index("uq_streams_close", "run_id", "stream_name", unique=True, **where("is_eof")),
        Index(
            "ix_streams_of_run", "run_id", "created_at", "stream_name", **where("chunk_index = 0")
        ),
    )
