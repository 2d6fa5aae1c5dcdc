"""A workflow that awaits another run's result holds no slot of the worker meanwhile.

In a workflow ``await run.return_value()`` is a step of the SDK's own, whose body asks once a second
until that run has ended. So as many of them as there are slots would keep all of them from the very
runs they wait for, each restart of the worker would cost the step one of its attempts, and each
shutdown would wait for them. Here the step is not begun before it has something to return.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, cast

from vercel.workflow._internal import run as sdk_run
from vercel.workflow._internal import serialization as ser
from vercel.workflow._internal import world as w

from ..core.entities import Run, Step
from ..world import World

logger = logging.getLogger("workflow_world.vercel")

_AWAITS: Final = sdk_run._get_return_value.name  # pyright: ignore[reportPrivateUsage]
_FIRST_S: Final = 0.25
_LONGEST_S: Final = 5.0
_FRACTION: Final = 20
"""The next look comes after this fraction of the time that the step has waited already."""


def patient(world: World, handler: w.QueueHandler) -> w.QueueHandler:
    """The SDK's handler, which is called for such a step when the other run has ended, or its own;
    until then the answer is the same message again, which costs no attempt."""

    async def handle(
        message: Any, *, attempt: int, queue_name: str, message_id: str
    ) -> w.QueueContinuation | None:
        if _is_waiting(message) and (pause := await _pause(world, message)) is not None:
            return w.QueueContinuation(delay_seconds=pause)
        return await handler(message, attempt=attempt, queue_name=queue_name, message_id=message_id)

    return handle


def _is_waiting(message: object) -> bool:
    return isinstance(message, Mapping) and cast("Any", message).get("stepName") == _AWAITS


async def _pause(world: World, message: Mapping[str, Any]) -> float | None:
    """Seconds until the next look; None: the handler finds the result, or says what is wrong."""
    try:
        step = await world.steps.get(message["runId"], message["stepId"])
        waiting = await world.runs.get(step.run_id, resolve_data="none")
        awaited = await world.runs.get(await _awaited(world, step, waiting), resolve_data="none")
    except Exception:
        logger.debug("It cannot be told what a step waits for", exc_info=True)
        return None
    if waiting.is_final or awaited.is_final:
        return None
    waited = (world.clock.now() - step.created_at).total_seconds()
    return min(max(waited / _FRACTION, _FIRST_S), _LONGEST_S)


async def _awaited(world: World, step: Step, run: Run) -> str:
    """The id of the run whose result the step is to return. Raises: what reading it raises."""
    key = None
    if ser.is_encrypted(step.input):
        key = await world.run_key(run.run_id, deployment_id=run.deployment_id)
    what = f"the input of step {step.step_id}"
    args, kwargs = ser.step_call_arguments(ser.hydrate(step.input, what=what, key=key), what=what)
    return str([*args, *kwargs.values()][0])
