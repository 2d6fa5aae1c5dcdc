"""Faults of the network and of the server: one clear error each, and never a silent one."""

# ruff: noqa: S608  # the names of tables are the tests' own

from __future__ import annotations

import importlib.util
import logging
import socket
import struct
import threading

import pytest
from servers.sqld import Sqld, free_port

from workflow_world import hrana

from .conftest import Connect
from .proxy import Fault, Proxy

ACTED: list[Fault] = ["lose", "truncate", "html", "garbage"]
"""The server did what was asked, and no usable answer arrives."""

MAYBE: list[Fault] = [*ACTED, "cut", "status 502", "status 408"]
NOT_DONE: list[Fault] = ["status 404", "status 413", "status 429", "status 308"]


def count(connect: Connect, table: str) -> int:
    row = connect().execute(f"SELECT count(*) FROM {table}").fetchone()
    return int((row or (0,))[0])


@pytest.mark.parametrize("fault", MAYBE)
def test_a_commit_without_an_answer_is_an_unknown_outcome(
    connect: Connect, proxy: Proxy, table: str, fault: Fault
) -> None:
    db = connect(proxy.url)
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    proxy.faults.append(fault)
    with pytest.raises(hrana.UnknownOutcomeError, match="may have been, or not") as caught:
        db.commit()
    assert caught.value.disconnected
    assert not db.in_transaction
    assert proxy.sent()[-1] == ["COMMIT"]
    if fault in ACTED:
        assert count(connect, table) == 1
    db.execute("SELECT 1")  # the connection goes on


@pytest.mark.parametrize("fault", MAYBE)
def test_so_is_a_statement_that_commits_by_itself(
    connect: Connect, proxy: Proxy, table: str, fault: Fault
) -> None:
    db = connect(proxy.url)
    for run in (
        lambda: db.execute(f"INSERT INTO {table} VALUES (1, 'a')"),
        lambda: db.cursor().executemany(f"INSERT INTO {table} VALUES (?, ?)", [(2, 2), (3, 3)]),
        lambda: db.batch([(f"INSERT INTO {table} VALUES (4, 'd')", ())], begin="IMMEDIATE"),
    ):
        proxy.faults.append(fault)
        with pytest.raises(hrana.UnknownOutcomeError):
            run()
    assert count(connect, table) == (4 if fault in ACTED else 0)


@pytest.mark.parametrize("fault", [*MAYBE, *NOT_DONE])
def test_a_transaction_whose_stream_is_lost(
    connect: Connect, proxy: Proxy, table: str, fault: Fault
) -> None:
    db = connect(proxy.url)
    db.execute("BEGIN")
    db.execute(f"SELECT * FROM {table}")
    proxy.faults.append(fault)
    with pytest.raises(hrana.TransactionLostError, match="nothing was committed") as caught:
        db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    assert caught.value.disconnected
    assert not db.in_transaction
    with pytest.raises(hrana.TransactionLostError):
        db.execute(f"INSERT INTO {table} VALUES (2, 'stray')")
    db.rollback()
    assert count(connect, table) == 0


def test_a_transaction_that_is_gone_without_a_word(
    connect: Connect, proxy: Proxy, table: str
) -> None:
    """Whatever took it, its next statement must not run outside of it."""
    db = connect(proxy.url)
    db.execute("BEGIN")
    proxy.faults.append("undone")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    with pytest.raises(hrana.TransactionLostError, match="rolled it back"):
        db.execute(f"INSERT INTO {table} VALUES (2, 'stray')")
    with pytest.raises(hrana.TransactionLostError):
        db.commit()
    db.rollback()
    assert count(connect, table) == 0


@pytest.mark.parametrize("fault", [*MAYBE, *NOT_DONE])
def test_a_read_without_an_answer(connect: Connect, proxy: Proxy, fault: Fault) -> None:
    db = connect(proxy.url)
    proxy.faults.append(fault)
    kind = hrana.DataError if fault == "status 413" else hrana.OperationalError
    with pytest.raises(kind) as caught:
        db.execute("SELECT 1")
    assert type(caught.value) is kind
    assert "<" not in str(caught.value)
    assert db.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("fault", NOT_DONE)
def test_a_commit_that_was_refused_is_known_to_be_undone(
    connect: Connect, proxy: Proxy, table: str, fault: Fault
) -> None:
    db = connect(proxy.url, write_behind=True)
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    proxy.faults.append(fault)
    with pytest.raises((hrana.OperationalError, hrana.DataError)) as caught:
        db.commit()
    assert not isinstance(caught.value, hrana.UnknownOutcomeError)
    assert caught.value.http_status == int(fault[7:])
    assert count(connect, table) == 0


def test_a_server_that_does_not_answer(connect: Connect, proxy: Proxy, table: str) -> None:
    db = connect(proxy.url, timeout=0.2)
    proxy.faults.extend(["hang", "pass", "hang"])
    with pytest.raises(hrana.OperationalError, match=r"did not answer within 0\.2 s"):
        db.execute("SELECT 1")
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    with pytest.raises(hrana.UnknownOutcomeError, match=r"did not answer within 0\.2 s"):
        db.commit()
    assert count(connect, table) == 1


def test_nobody_listens(connect: Connect) -> None:
    db = connect(f"http://127.0.0.1:{free_port()}")
    db.execute("BEGIN IMMEDIATE")
    with pytest.raises(hrana.OperationalError, match="cannot be reached") as caught:
        db.execute("INSERT INTO t VALUES (1)")
    assert not isinstance(caught.value, hrana.UnknownOutcomeError)
    db.rollback()
    with pytest.raises(hrana.OperationalError, match="cannot be reached") as caught:
        db.batch([("INSERT INTO t VALUES (1)", ())], begin="IMMEDIATE")
    # It was never sent, so its outcome is known.
    assert type(caught.value) is hrana.OperationalError


def test_an_unknown_host(connect: Connect) -> None:
    with pytest.raises(hrana.OperationalError, match="cannot be reached"):
        connect("libsql://nowhere.invalid", connect_timeout=5).execute("SELECT 1")


@pytest.mark.parametrize("resets", [True, False], ids=["reset", "closed"])
def test_a_server_that_hangs_up_on_plain_http(connect: Connect, resets: bool) -> None:
    """As one that speaks TLS does; whether it resets depends on what it had read by then."""

    def hang_up() -> None:
        end, _ = listener.accept()
        with end:
            while not end.recv(65536, socket.MSG_PEEK).endswith(b"}"):
                pass  # the whole request has to be there
            if resets:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                end.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            with pytest.raises(hrana.OperationalError, match="https://"):
                connect(f"http://127.0.0.1:{listener.getsockname()[1]}").execute("SELECT 1")
        finally:
            thread.join()


def test_a_server_that_is_none(connect: Connect, proxy: Proxy) -> None:
    proxy.faults.append("status 404")
    with pytest.raises(hrana.OperationalError, match="no such database") as caught:
        connect(proxy.url).execute("SELECT 1")
    assert caught.value.http_status == 404


def test_a_restart_within_a_transaction(connect: Connect, own_sqld: Sqld) -> None:
    db = connect(own_sqld.url, write_behind=True)
    db.execute("CREATE TABLE t (id)")
    db.execute("BEGIN IMMEDIATE")
    assert db.execute("INSERT INTO t VALUES (1)").rowcount == 1
    own_sqld.kill()
    own_sqld.start()
    with pytest.raises(hrana.TransactionLostError, match="invalid baton"):
        db.execute("INSERT INTO t VALUES (2)").fetchall()
    assert not db.in_transaction
    db.rollback()
    assert db.execute("SELECT * FROM t").fetchall() == []
    own_sqld.kill()
    own_sqld.start()
    # Outside of a transaction a restart is not even noticed.
    assert db.execute("SELECT * FROM t").fetchall() == []


def test_a_restart_before_the_commit(connect: Connect, own_sqld: Sqld) -> None:
    db = connect(own_sqld.url)
    db.execute("CREATE TABLE t (id)")
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO t VALUES (1)")
    own_sqld.kill()
    own_sqld.start()
    with pytest.raises(hrana.TransactionLostError):
        db.commit()
    db.rollback()
    assert db.execute("SELECT * FROM t").fetchall() == []


def test_a_transaction_that_was_idle_for_too_long(connect: Connect, proxy: Proxy) -> None:
    """The server's own answer for an old baton, which it gives after ten seconds or more."""
    db = connect(proxy.url)
    db.execute("BEGIN")
    db.execute("SELECT 1")
    assert not proxy.ended.wait(12.5)  # only the server's own clock expires a stream
    with pytest.raises(hrana.TransactionLostError, match="expired") as caught:
        db.execute("SELECT 2")
    assert caught.value.code == "STREAM_EXPIRED"
    assert caught.value.http_status == 400


def test_the_stream_goes_on_where_the_server_says(
    connect: Connect, proxy: Proxy, sqld: Sqld
) -> None:
    other = Proxy(sqld.host)
    try:
        proxy.base_url = other.url
        db = connect(proxy.url)
        db.execute("BEGIN")
        for number in range(3):
            assert db.execute("SELECT ?", (number,)).fetchone() == (number,)
        db.commit()
        assert proxy.sent() == [["BEGIN", "SELECT ?"]]
        assert other.sent() == [["SELECT ?"], ["SELECT ?"], ["COMMIT"]]
        db.execute("SELECT 'anew'")
        assert proxy.sent()[-1] == ["SELECT 'anew'"]
        proxy.base_url = "ftp://elsewhere"
        db.execute("BEGIN")
        with pytest.raises(hrana.OperationalError, match="not safe"):
            db.execute("SELECT 1")
    finally:
        other.close()


def test_an_interrupt_loses_the_stream_not_the_order(
    connect: Connect, proxy: Proxy, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = connect(proxy.url)
    db.execute("BEGIN")
    db.execute("SELECT 1")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("httpx.HTTPTransport.handle_request", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    assert not db.in_transaction
    with pytest.raises(hrana.TransactionLostError):
        db.execute(f"INSERT INTO {table} VALUES (2, 'stray')")
    db.execute("BEGIN")
    db.execute(f"INSERT INTO {table} VALUES (3, 'anew')")
    db.commit()
    assert count(connect, table) == 1


def test_rolling_back_never_fails(connect: Connect, proxy: Proxy) -> None:
    db = connect(proxy.url)
    for end in (db.rollback, lambda: db.execute("ROLLBACK"), db.close):
        db.execute("BEGIN")
        db.execute("SELECT 1")
        proxy.faults.append("cut")
        end()
        assert not db.in_transaction


def test_closing_frees_the_lock_at_once(connect: Connect, table: str) -> None:
    db = connect()
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    db.close()
    # Well below the five seconds after which the server would take the lock away.
    connect(timeout=3).execute(f"INSERT INTO {table} VALUES (2, 'b')")
    assert count(connect, table) == 1


def test_an_outage_logs_nothing_above_debug(
    connect: Connect, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Its callers poll: what they log is theirs to bound."""
    caplog.set_level(logging.INFO)
    db = connect(proxy.url)
    for _ in range(3):
        db.execute("SELECT 1")
    proxy.faults.append("cut")
    with pytest.raises(hrana.OperationalError):
        db.execute("SELECT 1")
    assert caplog.text == ""


def test_a_proxy_of_the_environment_is_used(
    connect: Connect, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(hrana.OperationalError, match="cannot be reached") as caught:
        connect(proxy.url).execute("INSERT INTO t VALUES (1)")
    assert type(caught.value) is hrana.OperationalError
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert connect(proxy.url).execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1:1", "cannot be reached"),  # as curl takes it
        ("socks5://user:s3cret@127.0.0.1:1", "socks5 proxy .* cannot be used: .*socksio"),
        ("ftp://user:s3cret@127.0.0.1:1", "ftp proxy .* cannot be used"),
    ],
)
def test_a_proxy_of_the_environment_that_cannot_be_used(
    connect: Connect, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("all_proxy", value)
    if value.startswith("socks") and importlib.util.find_spec("socksio") is not None:
        pytest.skip("socksio is installed")
    with pytest.raises(hrana.OperationalError, match=expected) as caught:
        connect(proxy.url).execute("SELECT 1")
    assert "s3cret" not in str(caught.value)
