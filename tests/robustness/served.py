"""An application whose World lives as long as it does: for servers with several processes.

``WORLD_URL`` names the database. ``POST /RUN`` starts a run and waits for its end; the worker of
any of the processes ends it, and says which.
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from workflow_world import create_world

FLOWS = "__wkf_workflow_"

# At import, as applications do: a server that loads before it forks makes one for all of them.
world = create_world(os.environ["WORLD_URL"])


async def handle(message: object, **about: object) -> None:
    assert isinstance(message, dict)
    done = {"eventType": "run_completed", "eventData": {"output": str(os.getpid())}}
    await world.events.create(message["runId"], done)


world.create_queue_handler(FLOWS, handle)


async def run(request: Request) -> PlainTextResponse:
    run_id = request.path_params["run_id"]
    data = {"deploymentId": "d", "workflowName": "w", "input": b""}
    await world.events.create(run_id, {"eventType": "run_created", "eventData": data})
    await world.queue(f"{FLOWS}w", {"runId": run_id})
    ended = await world.runs.wait(run_id, 60)
    return PlainTextResponse(f"{os.getpid()} {ended.output}")


app = Starlette(routes=[Route("/{run_id}", run, methods=["POST"])], lifespan=world.lifespan)
