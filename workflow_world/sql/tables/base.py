"""What all table models share: naming, column types, and pieces of constraints."""

from __future__ import annotations

from typing import Annotated, Any, Final

from sqlalchemy import BigInteger, LargeBinary, MetaData, Text, text
from sqlalchemy.orm import DeclarativeBase, mapped_column

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


def one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def where(condition: str) -> dict[str, Any]:
    """What makes an index one of these rows only."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
