"""Run one flow module's ``scenario`` on a World of its own: ``play.py MODULE DATABASE_URL``.

The SDK has one World per process and its handlers cannot be taken back, so each scenario gets a
process. A flow that installs its World itself finds the URL in the environment.
"""

import asyncio
import importlib
import logging
import os
import sys
import threading

import workflow_world


def watch_imports() -> list[str]:
    """What threads of ours import: the SDK's sandbox fails if that happens while it looks."""
    found: list[str] = []

    def hook(event: str, about: tuple[object, ...]) -> None:
        thread = threading.current_thread().name
        ours = event == "import" and thread.startswith("workflow-world")
        if ours and about[0] not in sys.modules:
            found.append(f"{about[0]} by {thread}")

    sys.addaudithook(hook)
    return found


async def play(name: str) -> None:
    world = None if name.startswith("own_") else workflow_world.install()
    flow = importlib.import_module(f"flows.{name}")
    world = world or flow.world
    async with asyncio.timeout(150), world:
        await flow.scenario(world)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    module, os.environ["WORKFLOW_DATABASE_URL"] = sys.argv[1:]
    imported = watch_imports()
    asyncio.run(play(module))
    assert not imported, imported
