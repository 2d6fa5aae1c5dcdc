"""A real PgBouncer in front of a Postgres: found, started, and always stopped.

Found, in this order: ``WORKFLOW_TEST_PGBOUNCER`` (the program), PATH, ``/usr/sbin``. Debian has it
in the package ``pgbouncer``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
import pytest

from .postgres import Server
from .processes import die_with_parent, free_port

_START_S: Final = 30.0
_ENVIRON: Final = dict(os.environ)

SETTINGS: Final = """\
[databases]
* = host={host} port={server_port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
server_reset_query_always = 1
"""


def program() -> str:
    """Where there is none the test is skipped, saying why; it fails when
    ``WORKFLOW_TEST_REQUIRE`` names ``pgbouncer``."""
    found = _ENVIRON.get("WORKFLOW_TEST_PGBOUNCER") or shutil.which("pgbouncer")
    if found is None and Path("/usr/sbin/pgbouncer").is_file():
        found = "/usr/sbin/pgbouncer"
    if found is not None:
        return found
    reason = "pgbouncer: apt install pgbouncer, or set WORKFLOW_TEST_PGBOUNCER to the program"
    if "pgbouncer" in _ENVIRON.get("WORKFLOW_TEST_REQUIRE", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def pooled(server: Server, *, pool_size: int) -> Iterator[Server]:
    """The server through a pooler in transaction mode, which has so many connections to each
    database."""
    parts, port = urlsplit(server.url()), free_port()
    chosen, user = program(), dict[str, Any]()
    folder = Path(tempfile.mkdtemp(prefix="workflow-world-pgbouncer-"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            host=parts.hostname,
            server_port=parts.port or 5432,
            user=parts.username or "postgres",
            port=port,
            pool_size=pool_size,
        )
    )
    if os.geteuid() == 0:
        # It refuses to run as root.
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [chosen, str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            preexec_fn=die_with_parent,
            **user,
        )
    try:
        netloc = f"{parts.username or 'postgres'}@127.0.0.1:{port}"
        found = Server(parts._replace(netloc=netloc).geturl())
        _wait_for(found, process, folder)
        yield found
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: Server, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(server.url(), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                log = (folder / "log.txt").read_text(errors="replace")
                raise RuntimeError(f"PgBouncer did not start: {log[-2000:]}") from None
        time.sleep(0.02)
