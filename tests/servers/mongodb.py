"""A server that speaks MongoDB's protocol: found or fetched, started, and always stopped.

Found, in this order: ``WORKFLOW_TEST_MONGODB_URI`` (a running server; the tests make and drop
databases there whose names begin with ``workflow_world_test_``), ``mongod`` on PATH, and the Maven
package ``de.bwaldvogel:mongo-java-server``, a server in memory, in a cache folder
(``WORKFLOW_TEST_CACHE``, else ``~/.cache/workflow-world``), for which ``java`` (a JDK of version
11 or later) and ``mvn`` are needed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from .processes import die_with_parent, end, free_port
from .sqld import cache, locked

VERSION: Final = "1.47.0"
_SOURCE: Final = Path(__file__).with_name("MongoServer.java")
_POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId>
  <artifactId>servers</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>de.bwaldvogel</groupId>
      <artifactId>mongo-java-server</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
_START_S: Final = 60.0
_STOP_S: Final = 10.0
_FETCH_S: Final = 300.0
_PREFIX: Final = "workflow_world_test_"
_ENVIRON: Final = dict(os.environ)
"""As it was when the tests began: some of them hide our variables."""

_number = itertools.count()


class Server:
    """A running server. ``address`` is its URL up to the name of a database."""

    def __init__(self, address: str) -> None:
        head, _, self._query = address.partition("?")
        self.address = "/".join(head.split("/")[:3])
        self._client: MongoClient[dict[str, Any]] = MongoClient(address)

    def url(self, name: str) -> str:
        query = self._query or "directConnection=true"
        return f"{self.address}/{name}?{query}"

    def create(self) -> str:
        """A name that no other test has; the database comes into being when it is written to."""
        return f"{_PREFIX}{os.getpid()}_{next(_number)}"

    def drop(self, name: str) -> None:
        self._client.drop_database(name)

    def collection(self, name: str, collection: str) -> Any:
        return self._client[name][collection]

    @contextlib.contextmanager
    def database(self) -> Generator[str]:
        """A database of its own, by URL; gone at the end."""
        name = self.create()
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def close(self) -> None:
        self._client.close()


@contextlib.contextmanager
def running(*, streams: bool = False) -> Generator[Server]:
    """A server. ``streams``: one that has change streams; nothing else differs to a client.

    Where there is none the test is skipped, saying why; in CI, and when ``WORKFLOW_TEST_REQUIRE``
    names ``mongodb``, it fails.
    """
    if given := _ENVIRON.get("WORKFLOW_TEST_MONGODB_URI"):
        with contextlib.closing(Server(given)) as server:
            yield server
        return
    with tempfile.TemporaryDirectory(prefix="workflow-world-") as folder:
        port = free_port()
        process = Process(port, Path(folder), streams=streams)
        try:
            process.start()
            with contextlib.closing(Server(process.address)) as server:
                yield server
        finally:
            process.stop()


class Process:
    """A server of our own on a port of its own; it can be ended and started again. One in memory
    is empty then."""

    def __init__(self, port: int, folder: Path, *, streams: bool = False) -> None:
        self.address = f"mongodb://127.0.0.1:{port}/?directConnection=true"
        self._port, self._folder, self._streams = port, folder, streams
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + _START_S
        with contextlib.closing(
            MongoClient[dict[str, Any]](self.address, serverselectiontimeoutms=500)
        ) as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                with contextlib.suppress(PyMongoError):
                    client.admin.command("ping")
                    return
        text = (self._folder / "log.txt").read_text(errors="replace")
        raise RuntimeError(f"the MongoDB server did not start: {text[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process, how, _STOP_S)

    def _command(self) -> list[str]:
        if (mongod := shutil.which("mongod")) and not self._streams:
            data = self._folder / "data"
            data.mkdir(exist_ok=True)
            bound = ["--bind_ip", "127.0.0.1", "--port", str(self._port)]
            return [mongod, "--dbpath", str(data), *bound]
        java, jars = _java()
        command = [java, "-Xmx1g", "-cp", f"{jars}/*", str(_SOURCE), str(self._port)]
        return [*command, "streams"] if self._streams else command


def _java() -> tuple[str, Path]:
    """The program, and the folder of the server's packages."""
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        _missing("needs a JDK, or mongod, or WORKFLOW_TEST_MONGODB_URI")
    folder = cache() / f"mongo-java-server-{VERSION}"
    jars = folder / "jars"
    with locked(folder):
        if not (folder / "done").exists():
            _fetch(folder, jars)
    return java, jars


def _fetch(folder: Path, jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        _missing("needs mvn, to fetch mongo-java-server, or WORKFLOW_TEST_MONGODB_URI")
    (folder / "pom.xml").write_text(_POM)
    command = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_FETCH_S)
    except subprocess.TimeoutExpired:
        _missing(f"mvn did not fetch mongo-java-server within {_FETCH_S:g} s")
    if done.returncode:
        _missing(f"mvn cannot fetch mongo-java-server: {done.stdout.strip()[-300:]}")
    (folder / "done").touch()


def _missing(reason: str) -> NoReturn:
    text = f"mongodb: {reason}"
    required = _ENVIRON.get("WORKFLOW_TEST_REQUIRE", "").split(",")
    if "mongodb" in required or _ENVIRON.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)
