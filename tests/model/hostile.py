"""Text that was made to be mistaken for something else, and every place that takes text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

from workflow_world import World, WorldError

FRAGMENTS: Final = (
    "\0", "'", '"', "''", "\\", "%", "_", "%s", "%(run_id)s", ":run_id", "?", "$1", "$where", "$$",
    "{}", '{"$gt": ""}', "[", "]", "(", ")", ";", "--", "/*", "*/", "' OR '1'='1",
    "'); DROP TABLE workflow_runs; --", "E'\\047'", "../", "..", "/", "/etc/passwd", "C:\\", "~",
    ".", "#", "?a=b&c", "%00", "%27", "\n", "\r\n", "\t", " ", "\x7f", "\x85", "\u2028", "\ufeff",
    "\u202e", "e\u0301", "é", "ﬀ", "\u0130", "ß", "😀", "👩‍👩‍👧", "\U0010ffff", "\ufffe", "\ud800",
    "\udfff", "\udfff\ud800", "NULL", "null", "undefined", "True", "0", "-1", "1e309", "NaN",
    "__wkf_workflow_", "wrun_", "<script>", "${jndi:ldap://x}", "\x1b[2J",
)  # fmt: skip

ANY: Final = st.one_of(
    st.characters(), st.characters(categories=["Cc", "Cf"]), st.sampled_from(FRAGMENTS)
)
SHORT: Final = st.lists(ANY, max_size=12).map("".join)
LONG: Final = st.builds(
    lambda part, size, end: (part * size)[:size] + end,
    SHORT.filter(bool),
    st.sampled_from([255, 256, 257, 512, 513, 2_048, 2_700, 10_000]),
    SHORT,
)
INCOMPRESSIBLE: Final = st.binary(min_size=2_000, max_size=5_000).map(bytes.hex)
"""Too long for an index of Postgres, which compresses the others."""


@dataclass(frozen=True)
class Hostile:
    """A text that a report shows the beginning of; the blob in it makes all of it again."""

    text: str

    def __repr__(self) -> str:
        return f"Hostile({self.text[:200]!r}) of {len(self.text)} characters"


HOSTILE: Final = st.one_of(SHORT, SHORT, SHORT, LONG, INCOMPRESSIBLE).map(Hostile)

Place: TypeAlias = Callable[[World, str, str], Awaitable[dict[str, int]]]
"""Puts a text where it may be, for a run of its own, and reads it back. Returns: how many rows of
which tables are new."""

RUN: Final = {"workflow_runs": 1, "workflow_events": 1}


async def create(world: World, run_id: str, **more: Any) -> None:
    data = {"deploymentId": "d", "workflowName": "w", "input": b"", **more}
    await world.events.create(run_id, {"eventType": "run_created", "eventData": data})


async def send(world: World, run_id: str, kind: str, key: str, **data: Any) -> Any:
    new = {"eventType": kind, "correlationId": key, "eventData": data or None}
    return await world.events.create(run_id, new)


async def as_run_id(world: World, text: str, run_id: str) -> dict[str, int]:
    await create(world, text)
    assert (await world.runs.get(text)).run_id == text
    (found,) = await world.runs.get_many([text])
    assert found is not None
    assert (await world.events.list(text)).data[0].run_id == text
    assert (await world.runs.list(limit=1)).data[0].run_id == text
    return RUN


async def as_workflow(world: World, text: str, run_id: str) -> dict[str, int]:
    await create(world, run_id, workflowName=text, deploymentId=text)
    run = await world.runs.get(run_id)
    assert (run.workflow_name, run.deployment_id) == (text, text)
    page = await world.runs.list(workflow_name=text, deployment_id=text, limit=1)
    assert page.data[0].run_id == run_id
    return RUN


async def as_step(world: World, text: str, run_id: str) -> dict[str, int]:
    await send(world, run_id, "step_created", text, stepName=text, input=text)
    step = await world.steps.get(run_id, text)
    assert (step.step_id, step.step_name, step.input) == (text, text, text)
    page = await world.events.list_by_correlation_id(text, run_id=run_id)
    assert [one.correlation_id for one in page.data] == [text]
    return {"workflow_events": 1, "workflow_steps": 1}


async def as_token(world: World, text: str, run_id: str) -> dict[str, int]:
    result = await send(world, run_id, "hook_created", "hook", token=text)
    if result.hook is None:  # an earlier run has it
        assert result.event.event_type == "hook_conflict"
        return {"workflow_events": 1}
    hook = await world.hooks.get_by_token(text)
    assert (hook.token, hook.run_id) == (text, run_id)
    return {"workflow_events": 1, "workflow_hooks": 1}


async def as_queue(world: World, text: str, run_id: str) -> dict[str, int]:
    name = f"__wkf_workflow_{text}"
    message_id = await world.queue(name, {"runId": run_id, "hookInput": text}, delay_seconds=60)
    assert (await world.messages.get(message_id)).queue_name == name
    page = await world.messages.list(queue_name=name, run_id=run_id)
    assert [one.message_id for one in page.data] == [message_id]
    assert name in (await world.messages.stats()).counts
    return {"queue_messages": 1}


async def as_key(world: World, text: str, run_id: str) -> dict[str, int]:
    message = {"runId": run_id, "stepId": text, "stepName": text}
    known = {one.message_id for one in (await world.messages.list(limit=1000)).data}
    headers = {"x-any": text}
    first = await world.queue(
        "__wkf_step_s", message, idempotency_key=text, delay_seconds=60, headers=headers
    )
    assert await world.queue("__wkf_step_s", {}, idempotency_key=text) == first
    if first in known:
        return {}
    found = await world.messages.get(first)
    assert (found.idempotency_key, found.step_id, found.headers) == (text, text, headers)
    return {"queue_messages": 1}


async def as_stream(world: World, text: str, run_id: str) -> dict[str, int]:
    await world.streams.write(run_id, text, text.encode("utf-8", "replace"))
    await world.streams.close(run_id, text)
    assert [*await world.streams.list(run_id)] == [text]
    page = await world.streams.get_chunks(run_id, text)
    assert [one.data for one in page.data] == [text.encode()]
    live = [one async for one in world.streams.get(run_id, text)]
    assert live == [text.encode()]
    return {"stream_chunks": 2}


async def as_attribute(world: World, text: str, run_id: str) -> dict[str, int]:
    changes, writer = [{"key": text, "value": text[:60]}], {"type": "workflow"}
    await send(world, run_id, "attr_set", "attr", changes=changes, writer=writer)
    assert (await world.runs.get(run_id)).attributes == {text: text[:60]}
    page = await world.runs.list(attributes={text: text[:60]}, limit=1)
    assert page.data[0].run_id == run_id
    return {"workflow_events": 1}


PLACES: Final[dict[str, tuple[Place, bool]]] = {
    "run id": (as_run_id, False),
    "workflow": (as_workflow, False),
    "step": (as_step, True),
    "token": (as_token, True),
    "queue": (as_queue, True),
    "key": (as_key, True),
    "stream": (as_stream, True),
    "attribute": (as_attribute, True),
}
"""And whether its run is there before."""


async def look(world: World, text: str) -> None:
    """Reads that find nothing, or what another example has stored; or a typed refusal."""
    for read in (
        lambda: world.runs.get(text),
        lambda: world.runs.list(workflow_name=text, limit=1),
        lambda: world.runs.list(attributes={text: text}, limit=1),
        lambda: world.runs.list(cursor=text),
        lambda: world.steps.get(None, text),
        lambda: world.hooks.get(text),
        lambda: world.hooks.get_by_token(text),
        lambda: world.waits.get(text, text),
        lambda: world.events.get(text, text),
        lambda: world.events.list_by_correlation_id(text),
        lambda: world.events.list("wrun_bystander", event_types=[text]),
        lambda: world.messages.get(text),
        lambda: world.messages.list(queue_name=text, run_id=text, cursor=text),
        lambda: world.streams.get_info(text, text),
        lambda: world.streams.get_chunks("wrun_bystander", text, cursor=text),
    ):
        await typed(read())


async def typed(attempt: Awaitable[Any]) -> Any:
    """What came of it; None for a refusal, which has to say that the caller is at fault."""
    try:
        return await attempt
    except WorldError as error:
        refusal = error
    assert 400 <= refusal.status < 500, repr(refusal)
    assert str(refusal)
    str(refusal).encode()  # what cannot be printed or logged would be another fault
    return None
