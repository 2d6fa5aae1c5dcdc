"""Tokens and TLS: what the server accepts, and that no secret is shown anywhere."""

# ruff: noqa: S608  # the names of tables are the tests' own

from __future__ import annotations

import logging
import ssl
import traceback
from collections.abc import Iterator

import pytest
from servers.sqld import Signer, Sqld
from servers.tls import Authority

from workflow_world import hrana

from .conftest import Connect
from .proxy import Proxy

GARBAGE = "not-a-token-at-all"


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="session")
def guarded(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sqld]:
    """A server that wants a token."""
    with Sqld(tmp_path_factory.mktemp("sqld"), key=signer.key) as server:
        yield server


def test_a_good_token(connect: Connect, guarded: Sqld, signer: Signer) -> None:
    token = signer.token()
    by_argument = connect(guarded.url, auth_token=f"{token}\n")
    by_argument.execute("CREATE TABLE IF NOT EXISTS t (id)")
    by_url = connect(f"{guarded.url}&authToken={token}", write_behind=True)
    by_url.execute("BEGIN IMMEDIATE")
    by_url.execute("INSERT INTO t VALUES (1)")
    by_url.commit()
    assert by_argument.execute("SELECT count(*) > 0 FROM t").fetchone() == (1,)
    for connection in (by_argument, by_url):
        assert token not in repr(connection)
        assert token not in str(vars(connection)["_transport"].location)


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(vars(error))


@pytest.mark.parametrize("kind", ["none", "garbage", "foreign", "expired"])
def test_a_token_that_is_refused(
    connect: Connect, guarded: Sqld, signer: Signer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = {
        "none": None,
        "garbage": GARBAGE,
        "foreign": Signer().token(),
        "expired": signer.token(expires_in=-3600),
    }
    token = tokens[kind]
    caplog.set_level(logging.DEBUG)
    db = connect(guarded.url, auth_token=token)
    for run in (
        lambda: db.execute("SELECT 1"),
        lambda: db.execute("DELETE FROM nothing"),
        lambda: db.batch([("DELETE FROM nothing", ())], begin="IMMEDIATE"),
    ):
        with pytest.raises(hrana.OperationalError, match="auth token") as caught:
            run()
        # It is no question of luck: nothing happened, and trying again will not help.
        assert type(caught.value) is hrana.OperationalError
        assert caught.value.http_status == 401
        assert not caught.value.disconnected
        if token is not None:
            assert token not in shown(caught.value)
            assert token not in caplog.text
    assert caplog.text


def test_a_refusal_ends_the_socket(connect: Connect, proxy: Proxy) -> None:
    """The server may close it after refusing, and a race with that would look like an outage."""
    db = connect(proxy.url)
    db.execute("SELECT 1")
    proxy.faults.append("status 429")
    with pytest.raises(hrana.OperationalError):
        db.execute("SELECT 1")
    db.execute("SELECT 1")
    first, refused, last = proxy.clients
    assert first == refused != last


def test_a_token_without_the_right_to_write(
    connect: Connect, guarded: Sqld, signer: Signer
) -> None:
    token = signer.token("ro")
    db = connect(guarded.url, auth_token=token)
    assert db.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(hrana.OperationalError) as caught:
        db.execute("CREATE TABLE refused (id)")
    assert type(caught.value) is hrana.OperationalError
    assert "403" in str(caught.value)
    assert token not in shown(caught.value)


def test_a_server_that_repeats_the_token(connect: Connect, proxy: Proxy) -> None:
    db = connect(proxy.url, auth_token="no")  # noqa: S106
    proxy.faults.append("status 429")
    with pytest.raises(hrana.OperationalError, match=r"try later: \*\*\*$"):
        db.execute("SELECT 1")


def test_the_token_goes_out_as_a_bearer(connect: Connect, proxy: Proxy) -> None:
    connect(proxy.url, auth_token=GARBAGE).execute("SELECT 1")
    connect(proxy.url).execute("SELECT 1")
    assert [headers.get("authorization") for headers in proxy.headers] == [
        f"Bearer {GARBAGE}",
        None,
    ]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_proxy(sqld: Sqld, authority: Authority) -> Iterator[Proxy]:
    proxy = Proxy(sqld.host, tls=authority.server_side())
    yield proxy
    proxy.close()


def test_tls_with_a_private_authority(
    connect: Connect, tls_proxy: Proxy, authority: Authority, table: str
) -> None:
    context = ssl.create_default_context(cafile=str(authority.path))
    db = connect(f"libsql://127.0.0.1:{tls_proxy.port}", tls=context)
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"INSERT INTO {table} VALUES (1, 'a')")
    assert db.execute(f"SELECT v FROM {table}").fetchall() == [("a",)]


def test_an_unknown_authority_is_refused(connect: Connect, tls_proxy: Proxy) -> None:
    db = connect(tls_proxy.url, auth_token=GARBAGE)
    with pytest.raises(hrana.OperationalError, match="SSL_CERT_FILE"):
        db.execute("SELECT 1")
    assert tls_proxy.headers == []


def test_tls_against_a_plain_port(connect: Connect, sqld: Sqld) -> None:
    with pytest.raises(hrana.OperationalError, match="tls=0"):
        connect(f"libsql://{sqld.host}").execute("SELECT 1")


def test_a_plain_request_to_a_tls_port(connect: Connect, tls_proxy: Proxy) -> None:
    with pytest.raises(hrana.OperationalError, match="cannot be reached"):
        connect(f"http://127.0.0.1:{tls_proxy.port}").execute("SELECT 1")


def test_a_stream_is_not_followed_out_of_tls(
    connect: Connect, tls_proxy: Proxy, authority: Authority, sqld: Sqld
) -> None:
    context = ssl.create_default_context(cafile=str(authority.path))
    db = connect(tls_proxy.url, tls=context, auth_token=GARBAGE)
    tls_proxy.base_url = sqld.http_url
    db.execute("BEGIN")
    with pytest.raises(hrana.OperationalError, match="not safe"):
        db.execute("SELECT 1")
