"""Database URLs: where to send requests, and the token to send with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from .errors import InterfaceError

_SCHEMES: Final = {
    "libsql": "https",
    "https": "https",
    "http": "http",
    "wss": "https",
    "ws": "http",
}
_TOKENS: Final = ("authToken", "auth_token")


@dataclass(frozen=True, slots=True)
class Location:
    """``base`` is ``http(s)://host[:port][/path]``, no final slash; ``token`` is not shown."""

    base: str
    token: str | None = field(repr=False)


def locate(url: str, *, auth_token: str | None = None, tls: bool | None = None) -> Location:
    """``libsql://HOST[:PORT][/PATH][?authToken=…][&tls=0]``, ``https://…``, ``http://…``.

    ``libsql`` means https unless ``tls`` is off; ``wss`` and ``ws`` are taken for https and http.
    What is given as an argument wins over the same thing in the URL.

    Raises: InterfaceError for anything else; its text holds neither token nor password.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InterfaceError("The database URL cannot be read: its host or port is wrong") from None
    scheme = parts.scheme.lower()
    if scheme not in _SCHEMES:
        raise InterfaceError(
            f"{scheme or 'No scheme'}: a remote database is libsql://HOST, https://HOST or http://HOST"
        )
    if not host:
        raise InterfaceError(f"The {scheme} URL names no host: write {scheme}://HOST[:PORT]")
    if parts.username is not None or parts.password is not None:
        raise InterfaceError(
            "The database URL holds a user or password, which is not sent: pass auth_token"
        )
    token, in_url = _query(parts.query)
    if tls is None:
        tls = in_url
    secure = _secure(scheme, tls, port)
    name = f"[{host}]" if ":" in host else host
    base = f"{'https' if secure else 'http'}://{name}"
    if port is not None:
        base += f":{port}"
    return Location(base + parts.path.rstrip("/"), _checked(auth_token or token))


def _query(query: str) -> tuple[str | None, bool | None]:
    token: str | None = None
    tls: bool | None = None
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _TOKENS:
            token = value
        elif name == "tls" and value in ("0", "1"):
            tls = value == "1"
        else:
            known = "tls=0 or tls=1" if name == "tls" else "authToken and tls"
            raise InterfaceError(f"The database URL's parameter {name!r}: known is {known}")
    return token, tls


def _secure(scheme: str, tls: bool | None, port: int | None) -> bool:
    default = _SCHEMES[scheme] == "https"
    if tls is None or tls == default:
        return default
    if scheme != "libsql":
        raise InterfaceError(f"{scheme}:// and tls={int(tls)} contradict each other")
    if port is None:
        raise InterfaceError("A libsql:// URL with tls=0 must name its port")
    return False


def _checked(token: str | None) -> str | None:
    """Without white space around it, where a copied line end would break the header."""
    token = (token or "").strip()
    if not token:
        return None
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InterfaceError("The auth token has a space or a character that no header may hold")
    return token
