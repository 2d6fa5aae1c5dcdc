"""Start a run and print its result: everything in this one process, no server.

    python script.py Ada

Stop it half-way and start it again: the old run is carried on, too.
"""

import asyncio
import sys

import workflow_world

world = workflow_world.install()  # before the import of a module with Workflows()

import greetings  # noqa: E402
from vercel.workflow import start  # noqa: E402


async def main(name: str) -> None:
    async with world:  # delivers messages until the end of the block
        run = await start(greetings.greet_in_all_languages, name)
        for greeting in await run.return_value():
            print(greeting)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "world"))
