"""An ASGI application that starts runs, and works on them while it serves. FastAPI is the same.

uvicorn starlette_app:app

curl -X POST localhost:8000/greetings/Ada      # {"run_id": "wrun_…"}
curl localhost:8000/runs/wrun_…                # {"status": "completed", "result": […]}
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import workflow_world

world = workflow_world.install()  # before the import of a module with Workflows()

import greetings  # noqa: E402
from vercel.workflow import get_run, start  # noqa: E402


async def create(request: Request) -> JSONResponse:
    run = await start(greetings.greet_in_all_languages, request.path_params["name"])
    return JSONResponse({"run_id": run.run_id}, status_code=202)


async def show(request: Request) -> JSONResponse:
    try:
        found = await world.runs.get(request.path_params["run_id"])
    except workflow_world.RunNotFoundError:
        return JSONResponse({"error": "no such run"}, status_code=404)
    except workflow_world.InvalidRequestError as error:
        return JSONResponse({"error": str(error)}, status_code=400)
    result = await get_run(found.run_id).return_value() if found.status == "completed" else None
    return JSONResponse({"status": found.status, "result": result})


app = Starlette(
    lifespan=world.lifespan,  # works on messages while the application runs
    routes=[
        Route("/greetings/{name}", create, methods=["POST"]),
        Route("/runs/{run_id}", show),
        # Only needed when workers in other processes deliver to this one over HTTP.
        Mount("/.well-known/workflow/v1", app=world.asgi()),
    ],
)
