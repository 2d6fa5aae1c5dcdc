"""SQLAlchemy, reflection and the project's own migrations over the driver."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import pytest
from servers.sqld import Signer, Sqld
from sqlalchemy import (
    BigInteger,
    Engine,
    LargeBinary,
    create_engine,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from workflow_world import hrana
from workflow_world.hrana.dialect import HranaDialect, engine_arguments
from workflow_world.sql.migrate import HEAD, bring_up_to_date, version_of
from workflow_world.sql.tables import tables


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = f"things_{uuid4().hex}"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(unique=True)
    big: Mapped[int | None] = mapped_column(BigInteger)
    data: Mapped[bytes | None] = mapped_column(LargeBinary)


def engine_for(url: str, auth_token: str | None = None) -> Engine:
    found, connect_args = engine_arguments(url, auth_token=auth_token)
    return create_engine(found, connect_args=connect_args)


@pytest.fixture
def engine(sqld: Sqld) -> Iterator[Engine]:
    engine = engine_for(sqld.url)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def test_the_dialect(engine: Engine) -> None:
    assert isinstance(engine.dialect, HranaDialect)
    assert (engine.dialect.name, engine.dialect.driver) == ("sqlite", "hrana")
    assert engine.dialect.dbapi is hrana
    assert engine.dialect.server_version_info is None or engine.dialect.server_version_info > (3,)


def test_core_and_orm(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add_all(
            [Thing(name=f"n{n}", big=2**53 + 1 + n, data=bytes([n])) for n in range(20)]
        )
    with Session(engine) as session:
        found = session.scalars(select(Thing).order_by(Thing.id)).all()
        assert [thing.big for thing in found] == [2**53 + 1 + n for n in range(20)]
        assert [thing.data for thing in found] == [bytes([n]) for n in range(20)]
        found[3].name = "renamed"
        session.commit()
        assert session.scalar(select(Thing.id).where(Thing.name == "renamed")) == found[3].id
        session.delete(found[4])
        with session.begin_nested():
            session.add(Thing(name="nested"))
        session.rollback()
        assert session.get(Thing, found[4].id) is not None
    with engine.begin() as connection:
        upsert = insert(Thing).values(id=1, name="again").on_conflict_do_nothing()
        assert connection.execute(upsert.returning(Thing.id)).all() == []


def test_errors_are_sqlalchemys(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(Thing).values(id=1, name="a"))
    with pytest.raises(IntegrityError) as caught, engine.begin() as connection:
        connection.execute(insert(Thing).values(id=2, name="a"))
    assert isinstance(caught.value.orig, hrana.IntegrityError)
    assert not caught.value.connection_invalidated


def test_a_restart_heals(own_sqld: Sqld) -> None:
    engine = engine_for(own_sqld.url)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        own_sqld.kill()
        with pytest.raises(OperationalError) as caught:
            connection.execute(text("SELECT 1"))
        assert caught.value.connection_invalidated
    own_sqld.start()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()


def test_pre_ping(own_sqld: Sqld) -> None:
    url, connect_args = engine_arguments(own_sqld.url)
    engine = create_engine(url, connect_args=connect_args, pool_pre_ping=True)

    @event.listens_for(engine, "begin")
    def begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    for _ in range(3):
        with engine.begin() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
    own_sqld.kill()
    with pytest.raises(OperationalError), engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    own_sqld.start()
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()


def test_isolation_levels(engine: Engine) -> None:
    begun: list[str] = []

    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(Thing).values(id=1))
        assert connection.get_isolation_level() == "AUTOCOMMIT"
    with engine.connect().execution_options(isolation_level="IMMEDIATE") as connection:
        connection.execute(insert(Thing).values(id=2))
        assert connection.get_isolation_level() == "IMMEDIATE"
        connection.rollback()
    with engine.connect() as connection:
        assert connection.get_isolation_level() == "SERIALIZABLE"
        assert connection.scalars(select(Thing.id)).all() == [1]

    @event.listens_for(engine, "begin")
    def begin(connection: object) -> None:
        begun.append("IMMEDIATE")
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    with engine.begin() as connection:
        connection.execute(insert(Thing).values(id=3))
    assert begun == ["IMMEDIATE"]


def test_urls() -> None:
    url, arguments = engine_arguments("libsql://host:81/path?tls=0&authToken=s3cret")
    assert str(url) == "sqlite+hrana://host:81/path?tls=0"
    assert arguments == {"auth_token": "s3cret"}
    assert "s3cret" not in repr(create_engine(url, connect_args=arguments))
    dialect = HranaDialect()
    assert dialect.create_connect_args(url)[0] == ["http://host:81/path"]
    shown = create_engine("sqlite+hrana://:s3cret@[::1]?timeout=3")
    assert "s3cret" not in repr(shown)
    assert dialect.create_connect_args(shown.url) == (
        ["https://[::1]/"],
        {"isolation_level": "DEFERRED", "timeout": 3.0, "auth_token": "s3cret"},
    )


@pytest.mark.parametrize(
    "url",
    [
        "sqlite+hrana:///file.db",
        "sqlite+hrana://user:s3cret@host",
        "sqlite+hrana://host?authToken=s3cret",
        "sqlite+hrana://host?secure=true",
        "sqlite+hrana://host?tls=maybe",
    ],
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        create_engine(url).connect()
    assert "s3cret" not in str(caught.value)


def test_a_token_as_the_password(tmp_path_factory: pytest.TempPathFactory) -> None:
    signer = Signer()
    with Sqld(tmp_path_factory.mktemp("sqld"), key=signer.key) as server:
        engine = create_engine(f"sqlite+hrana://:{signer.token()}@{server.host}?tls=0")
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        engine.dispose()


@pytest.mark.parametrize("hidden", ["sqlalchemy_libsql", ""])
def test_it_does_not_need_the_stock_driver(sqld: Sqld, hidden: str) -> None:
    """It has no wheel for every Python; what it would be used for is nothing."""
    program = f"""
import sys
if {hidden!r}: sys.modules[{hidden!r}] = None
from sqlalchemy import create_engine, text
import workflow_world.hrana.dialect
engine = create_engine("sqlite+hrana://{sqld.host}?tls=0")
with engine.connect() as connection:
    assert connection.scalar(text("SELECT 41 + 1")) == 42
bases = [base.__name__ for base in type(engine.dialect).__mro__]
assert ("SQLiteDialect_libsql" in bases) is ("sqlalchemy_libsql.libsql" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("begins", ["listener", "dialect"])
@pytest.mark.parametrize("prefix", ["", "mine_"])
def test_the_projects_migrations(own_sqld: Sqld, begins: str, prefix: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from alembic import command
    from workflow_world.sql.migrate import config_for

    engine = engine_for(own_sqld.url)
    if begins == "listener":

        @event.listens_for(engine, "begin")
        def begin(connection: object) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    names = {table.name for table in tables(prefix).metadata.tables.values()}
    for _ in range(2):
        bring_up_to_date(engine, prefix)
        with engine.connect() as connection:
            assert version_of(connection, prefix) == HEAD
            found = inspect(connection)
            assert names <= set(found.get_table_names())
            for name in names:
                assert found.get_columns(name)
                assert found.get_pk_constraint(name)["constrained_columns"]
            context = MigrationContext.configure(
                connection,
                opts={"include_name": lambda name, kind, _: kind != "table" or name in names},
            )
            assert compare_metadata(context, tables(prefix).metadata) == []
        with engine.begin() as connection:
            command.downgrade(config_for(prefix, connection), "base")
        with engine.connect() as connection:
            assert not names & set(inspect(connection).get_table_names())
    engine.dispose()
