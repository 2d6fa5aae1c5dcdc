"""One HTTP request and its answer. Knows nothing of SQL; tells whether the server may have acted.

The client keeps its connection to the server open, and waits without holding the interpreter
lock. After a fork the child leaves the parent's sockets alone and opens its own.
"""

from __future__ import annotations

import functools
import json
import os
import ssl
from typing import Any, Final, NoReturn, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from .location import Location
from .values import Json

_IDLE_S: Final = 50.0
"""A socket that was idle for longer is not used again: many proxies cut them after 60 s."""

_SHOWN: Final = 300
_HUNG_UP: Final = (httpx.ReadError, httpx.WriteError)
_NEVER_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)
_inherited: Final[list[httpx.HTTPTransport]] = []
"""Sockets of a parent process. Kept, for collecting one would close what is not ours."""


class Failure(Exception):
    """No usable answer. ``maybe`` says that the server may have done what was asked."""

    def __init__(
        self, text: str, *, maybe: bool, status: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(text)
        self.text, self.maybe, self.status, self.code = text, maybe, status, code


class Transport:
    """Sends to one server, as one caller at a time."""

    def __init__(
        self,
        location: Location,
        *,
        timeout: float,
        connect_timeout: float,
        tls_context: ssl.SSLContext | None,
    ) -> None:
        self.location = location
        self._timeout, self._connect_timeout = timeout, connect_timeout
        self._tls_context = tls_context
        self._headers = {
            "content-type": "application/json",
            "user-agent": "workflow-world",
            # Not gzip: bytes travel as base64 of what is compressed already, and unpacking a
            # megabyte of it took twenty times as long as all the rest (measured).
            "accept-encoding": "identity",
        }
        if location.token is not None:
            self._headers["authorization"] = f"Bearer {location.token}"
        self._client: httpx.HTTPTransport | None = None
        self._pid = os.getpid()
        self._has_answered = False
        self.requests = 0

    def close(self) -> None:
        """Idempotent; the next ``post`` would connect again."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._pid == os.getpid():
            client.close()
        else:
            _inherited.append(client)

    def post(self, base: str, body: bytes, *, timeout: float | None = None) -> Json:
        """The decoded JSON object of a 200 answer.

        ``base`` is the location's, or where a stream was told to go on. Raises: Failure.
        """
        self.requests += 1
        try:
            response = self._exchange(base + "/v3/pipeline", body, timeout or self._timeout)
        except httpx.TimeoutException as error:
            self._give_up(error)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            text = self._safe(str(error)) or type(error).__name__
            raise Failure(
                f"{self._host} cannot be reached: {text}{self._hint(error, text)}",
                maybe=not isinstance(error, _NEVER_SENT),
            ) from None
        self._has_answered = True
        if response.status_code != 200:
            # A server that refuses early may be about to close the socket: not used again, for
            # the next request would get no answer at all (seen once in 250 on sqld with 401).
            self.close()
            self._refused(response)
        return self._json(response)

    # --- answers that are none -------------------------------------------------------------

    def _give_up(self, error: httpx.TimeoutException) -> NoReturn:
        if isinstance(error, httpx.ConnectTimeout):
            text = f"{self._host} did not accept a connection within {self._connect_timeout:g} s"
        else:
            text = f"{self._host} did not answer within {self._timeout:g} s"
        raise Failure(text, maybe=not isinstance(error, _NEVER_SENT)) from None

    def _refused(self, response: httpx.Response) -> NoReturn:
        status = response.status_code
        text, code = self._said(response)
        told = f": {text}" if text else ""
        host = self._host
        if status == 401:
            message = f"{host} refused the auth token (401){told}"
            if self.location.token is None:
                message = f"{host} wants an auth token (401){told}"
        elif status == 403:
            message = f"{host}: the auth token does not allow this (403){told}"
        elif status == 404:
            message = f"{host} has no such database, or is no libSQL server of Hrana 3 (404){told}"
        elif status == 413:
            message = f"{host} refused the request as too large (413){told}"
        elif status == 429:
            message = f"{host} has too many connections or requests (429): try later{told}"
        elif 300 <= status < 400:
            message = f"{host} redirects ({status}): name the server that it redirects to"
        elif 400 <= status < 500:
            message = text or f"{host} refused the request ({status})"
        else:
            message = f"{host} failed ({status}){told}"
        # A proxy that gave up may have passed the request on; a refusal came before any work.
        maybe = not 300 <= status < 500 or status == 408
        raise Failure(message, maybe=maybe, status=status, code=code)

    def _said(self, response: httpx.Response) -> tuple[str, str | None]:
        """The server's own words: Hrana's error, the server's JSON, or plain text; never HTML."""
        kind = response.headers.get("content-type", "")
        if "html" in kind:
            return "the answer is a web page, not a database's", None
        text = response.text
        try:
            found: object = json.loads(text)
        except ValueError:
            return self._safe(text), None
        if not isinstance(found, dict):
            return self._safe(text), None
        body = cast("dict[str, Any]", found)
        code = body.get("code")
        said = body.get("message") or body.get("error") or ""
        return self._safe(str(said)), code if isinstance(code, str) else None

    def _json(self, response: httpx.Response) -> Json:
        try:
            found: object = json.loads(response.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            kind = self._safe(response.headers.get("content-type", "an unknown type"))
            raise Failure(
                f"{self._host} answered with {kind} that is not Hrana: is it a libSQL server?",
                maybe=True,
                status=200,
            )
        return cast("Json", found)

    def _hint(self, error: Exception, text: str) -> str:
        upper = text.upper()
        if "WRONG_VERSION_NUMBER" in upper or "RECORD_LAYER" in upper:
            return " (it does not speak TLS on this port: http://, or libsql:// with tls=0)"
        if "CERTIFICATE_VERIFY_FAILED" in upper and ("ISSUER" in upper or "SIGNED" in upper):
            return " (a private CA is named by SSL_CERT_FILE)"
        # A server that closes the connection with something of ours unread resets it.
        hung_up = isinstance(error, _HUNG_UP) or text.startswith("Server disconnected")
        is_plain = self.location.base.startswith("http:")
        if is_plain and not self._has_answered and hung_up:
            return " (it may speak TLS on this port: https://, or libsql:// without tls=0)"
        return ""

    # --- the client ------------------------------------------------------------------------

    def _exchange(self, url: str, body: bytes, timeout: float) -> httpx.Response:
        request = httpx.Request(
            "POST",
            url,
            content=body,
            headers=self._headers,
            extensions={
                "timeout": {
                    "connect": self._connect_timeout,
                    "read": timeout,
                    "write": timeout,
                    "pool": timeout,
                }
            },
        )
        response = self._connected().handle_request(request)
        try:
            response.read()
        finally:
            response.close()
        return response

    def _connected(self) -> httpx.HTTPTransport:
        if self._pid != os.getpid():
            self.close()
            self._pid = os.getpid()
        if self._client is None:
            # Without httpx.Client above it, which would log a line for every request.
            proxy = _proxy_for(self.location.base)
            try:
                self._client = httpx.HTTPTransport(
                    verify=self._tls_context or _default_tls(),
                    limits=httpx.Limits(
                        max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_S
                    ),
                    proxy=proxy,
                )
            except (ImportError, ValueError, httpx.InvalidURL) as error:
                if proxy is None:
                    raise
                # What it says of the URL may have a password in it.
                kind = proxy.partition(":")[0]
                said = str(error) if isinstance(error, ImportError) else "it cannot be read"
                text = f"The {kind} proxy that the environment names cannot be used: {said}"
                raise Failure(text, maybe=False) from None
        return self._client

    @property
    def _host(self) -> str:
        return urlsplit(self.location.base).netloc

    def _safe(self, text: str) -> str:
        """Short, on one line, and without the token, should a server repeat it."""
        if self.location.token is not None:
            text = text.replace(self.location.token, "***")
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _proxy_for(base: str) -> str | None:
    """What the environment says (``HTTPS_PROXY``, ``NO_PROXY`` …)."""
    parts = urlsplit(base)
    if proxy_bypass(parts.netloc):
        return None
    found = getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    # As other programs read it.
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


@functools.lru_cache(maxsize=1)
def _default_tls() -> ssl.SSLContext:
    """One for all: loading the certificates costs far more than a request. Raises: Failure."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        names = (name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name))
        name = next(names, None)
        where = "of the system" if name is None else f"in {os.environ[name]} ({name})"
        text = f"The certificates {where} cannot be read: {error.strerror or error}"
        raise Failure(text, maybe=False) from None
