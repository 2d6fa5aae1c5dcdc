"""An application under a server with four processes, each with the same World in its lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from servers.processes import free_port

from .conftest import MakeWorld
from .helpers import PATIENCE_S, not_on_libsql

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
WORKERS, RUNS = 4, 60


COMMANDS = {
    "uvicorn": ("uvicorn", "--workers", "{workers}", "--port", "{port}", "served:app"),
    "gunicorn": (
        "gunicorn",
        "--workers",
        "{workers}",
        "--bind",
        "127.0.0.1:{port}",
        "--worker-class",
        "uvicorn_worker.UvicornWorker",
        "served:app",
    ),
}
COMMANDS["gunicorn --preload"] = (*COMMANDS["gunicorn"], "--preload")


@pytest.fixture(params=COMMANDS)
def served(
    request: pytest.FixtureRequest, url: str, tmp_path: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """Where it listens, its first process, and what it logs."""
    port, log = free_port(), tmp_path / "server.log"
    command = [part.format(workers=WORKERS, port=port) for part in COMMANDS[request.param]]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=HERE,
            env={**os.environ, "WORLD_URL": url, "PYTHONPATH": str(HERE)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}", process, log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@not_on_libsql
async def test_four_processes_serve_one_application(
    served: tuple[str, subprocess.Popen[bytes], Path], url: str, make_world: MakeWorld
) -> None:
    address, process, log = served
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*address[7:].split(":"))
                writer.close()
                break
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(0.05)

    async def one(number: int) -> str:
        # A connection each, so that each of the processes gets some.
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            response = await client.post(f"{address}/wrun_{number}")
        assert response.status_code == 200, log.read_text()
        return response.text

    answers = [answer for start in range(0, RUNS, 20) for answer in await _some(one, start)]
    async with asyncio.timeout(PATIENCE_S):
        while len({answer.split()[0] for answer in answers}) < WORKERS:
            answers += await _some(one, len(answers))
    process.terminate()
    await asyncio.to_thread(process.wait, PATIENCE_S)
    text = log.read_text()
    assert "Traceback" not in text, text
    world = make_world(url)
    messages = (await world.messages.list(limit=1000)).data
    assert {message.status for message in messages} == {"completed"}
    assert {message.deliveries for message in messages} == {1}


async def _some(one: object, start: int) -> list[str]:
    assert callable(one)
    return list(await asyncio.gather(*(one(number) for number in range(start, start + 20))))
