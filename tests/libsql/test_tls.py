"""TLS with an authority of one's own, which ``SSL_CERT_FILE`` names."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from servers import tls
from servers.sqld import Signer, Sqld, empty_tables
from servers.tls import Authority

PLAY = Path(__file__).parents[1] / "e2e" / "play.py"
REPLICA = """
import asyncio, sys
from workflow_world import create_world

async def main(path, url):
    async with create_world(path, sync_url=url) as world:
        await world.runs.create(workflow_name="w", run_id="wrun_1")
        print([run.run_id for run in (await world.runs.list()).data])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure(guarded: Sqld, signer: Signer, authority: Authority) -> Iterator[str]:
    """As Turso has it: TLS, and a token."""
    empty_tables(guarded.url, signer.token())
    with tls.in_front_of(guarded.port, authority.server_side()) as port:
        yield f"libsql://127.0.0.1:{port}"


def run(*command: str, token: str, trusted: Path | None) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "WORKFLOW_TURSO_AUTH_TOKEN": token}
    environ |= {} if trusted is None else {"SSL_CERT_FILE": str(trusted)}
    return subprocess.run(
        [sys.executable, *command], env=environ, capture_output=True, text=True, timeout=90
    )


def refused(url: str, *, trusted: Path | None, token: str = "none") -> str:  # noqa: S107
    """``workflow-world status`` ends with one line. Returns: the line."""
    done = run("-m", "workflow_world", "status", "--url", url, token=token, trusted=trusted)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert token not in line
    return line


def test_the_flow_plays_to_its_end(secure: str, signer: Signer, authority: Authority) -> None:
    done = run(str(PLAY), "steps", secure, token=signer.token(), trusted=authority.path)
    assert done.returncode == 0, done.stderr[-6000:]


@pytest.mark.skipif(find_spec("libsql_experimental") is None, reason="has no wheel here")
def test_a_replica(secure: str, signer: Signer, authority: Authority, tmp_path: Path) -> None:
    where = f"file:{tmp_path / 'r.db'}"
    done = run("-c", REPLICA, where, secure, token=signer.token(), trusted=authority.path)
    assert done.stdout.splitlines() == ["['wrun_1']"], done.stderr[-6000:]


def test_an_authority_that_nobody_named(secure: str, signer: Signer) -> None:
    line = refused(secure, trusted=None, token=signer.token())
    assert "cannot be reached" in line
    assert "CERTIFICATE_VERIFY_FAILED" in line
    assert line.endswith("(a private CA is named by SSL_CERT_FILE)")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates(secure: str, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "authority.pem"
    if content is not None:
        path.write_text(content)
    line = refused(secure, trusted=path)
    assert "SSL_CERT_FILE" in line
    assert str(path) in line


@pytest.mark.parametrize(
    ("host", "days", "expected"),
    [("127.0.0.2", 1, "is not valid for '127.0.0.1'"), (tls.HERE, -1, "has expired")],
)
def test_a_certificate_that_is_not_good(
    guarded: Sqld, authority: Authority, host: str, days: int, expected: str
) -> None:
    context = authority.server_side(host, days=days)
    with tls.in_front_of(guarded.port, context) as port:
        line = refused(f"libsql://127.0.0.1:{port}", trusted=authority.path)
    assert expected in line
    assert "SSL_CERT_FILE" not in line


def test_a_plain_request_to_a_tls_port(secure: str) -> None:
    line = refused(secure.replace("libsql", "http"), trusted=None)
    assert "https://" in line


def test_tls_to_a_plain_port(guarded: Sqld, authority: Authority) -> None:
    line = refused(f"libsql://{guarded.host}", trusted=authority.path)
    assert "does not speak TLS" in line
    assert "tls=0" in line
