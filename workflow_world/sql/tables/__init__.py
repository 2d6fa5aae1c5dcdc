"""The six tables, as SQLAlchemy typed declarative models: the one source of the SQL schema.

Times are milliseconds since 1970 in BIGINT, payloads are CBOR in BLOB/BYTEA, maps of text are
JSON in TEXT. Indexes are named after the query they serve. The constraints repeat the rules of
``core``, so that an illegal row cannot be stored even by a bug (design 5).
"""

from .base import NAMING, Base, Letters
from .named import Tables, checked_prefix, checked_schema, tables
from .queue import UNFINISHED, QueueMessage
from .runs import ONCE, WorkflowEvent, WorkflowHook, WorkflowRun, WorkflowStep
from .streams import StreamChunk

__all__ = [
    "NAMING",
    "ONCE",
    "UNFINISHED",
    "Base",
    "Letters",
    "QueueMessage",
    "StreamChunk",
    "Tables",
    "WorkflowEvent",
    "WorkflowHook",
    "WorkflowRun",
    "WorkflowStep",
    "checked_prefix",
    "checked_schema",
    "tables",
]
