"""Database URLs, as the official clients spell them, and what is wrong with others."""

from __future__ import annotations

import pytest

from workflow_world import hrana
from workflow_world.hrana.location import locate

SECRET = "eyJ.se-cret.x"  # noqa: S105


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("libsql://db-org.turso.io", "https://db-org.turso.io"),
        ("libsql://host:8080/", "https://host:8080"),
        ("libsql://host:8080?tls=0", "http://host:8080"),
        ("libsql://host?tls=1", "https://host"),
        ("LIBSQL://Host", "https://host"),
        ("https://host/dev/name", "https://host/dev/name"),
        ("http://host", "http://host"),
        ("http://host?tls=0", "http://host"),
        ("wss://host", "https://host"),
        ("ws://[::1]:8080", "http://[::1]:8080"),
        (" libsql://host\n", "https://host"),
    ],
)
def test_where_a_url_leads(url: str, base: str) -> None:
    assert locate(url).base == base
    assert locate(url).token is None


@pytest.mark.parametrize("name", ["authToken", "auth_token"])
def test_the_token_in_a_url(name: str) -> None:
    found = locate(f"libsql://host:1?{name}={SECRET}&tls=0")
    assert (found.base, found.token) == ("http://host:1", SECRET)
    assert SECRET not in repr(found)


def test_arguments_win() -> None:
    found = locate("libsql://host:1?authToken=other&tls=1", auth_token=f" {SECRET}\n", tls=False)
    assert (found.base, found.token) == ("http://host:1", SECRET)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8080",
        "file:local.db",
        "postgresql://host/x",
        "libsql://",
        "libsql:///path",
        "libsql://host:port",
        "libsql://host:99999",
        "libsql://[::1",
        "libsql://host?tls=0",
        "libsql://host:1?tls=2",
        "https://host?tls=0",
        "http://host?tls=1",
        f"libsql://host?token={SECRET}",
        f"libsql://user:{SECRET}@host",
        f"libsql://{SECRET}@host",
        f"libsql://host?authToken={SECRET}%0a%0dx",
    ],
)
def test_a_bad_url_is_an_interface_error_without_secrets(url: str) -> None:
    with pytest.raises(hrana.InterfaceError) as caught:
        hrana.connect(url)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("token", ["with space", "new\nline", "ключ", "tab\tbed"])
def test_a_token_that_no_header_may_hold(token: str) -> None:
    with pytest.raises(hrana.InterfaceError) as caught:
        hrana.connect("libsql://host", auth_token=token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"connect_timeout": -1.0}])
def test_time_limits_are_positive(options: dict[str, float]) -> None:
    with pytest.raises(hrana.InterfaceError):
        hrana.connect("libsql://host", **options)  # type: ignore[arg-type]


def test_nothing_is_sent_by_connecting() -> None:
    connection = hrana.connect(f"https://nowhere.invalid?authToken={SECRET}")
    assert connection.round_trips == 0
    assert SECRET not in repr(connection)
    assert repr(connection) == "<Connection to https://nowhere.invalid, idle>"
    connection.close()
