"""The text of a failed run's error."""

from __future__ import annotations

from vercel.workflow import WorkflowRunFailedError, get_run


async def failure_of(run_id: str) -> str | None:
    """As the SDK reads what it wrote, on the World that is installed. None: the run completed.

    Waits for the run's end; raises what ``Run.return_value`` does when it is no failure.
    """
    try:
        await get_run(run_id).return_value()
    except WorkflowRunFailedError as error:
        return str(error)
    return None
