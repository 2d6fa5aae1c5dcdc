"""B195: every error is the SDK's class and ours at once."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta

import pytest
from vercel.workflow._internal import attributes as a
from vercel.workflow._internal import world as w

from workflow_world import World, errors
from workflow_world.vercel import SdkWorld
from workflow_world.vercel.errors import BORDER, SdkError, sdk_class, to_sdk

SAMPLES: list[tuple[errors.WorldError, int, type[Exception]]] = [
    (errors.WorldError("x"), 500, w.WorkflowWorldError),
    (errors.WorldError("x", status=418, code="POT"), 418, w.WorkflowWorldError),
    (errors.InvalidRequestError("x"), 400, w.WorkflowWorldError),
    (errors.InvalidAttributesError("x"), 400, w.WorkflowWorldError),
    (errors.InvalidAttributesError("x"), 400, a.AttributeValidationError),
    (errors.InvalidQueueNameError("x"), 400, w.WorkflowWorldError),
    (errors.InvalidCursorError("x"), 400, w.WorkflowWorldError),
    (errors.NotFoundError("x"), 404, w.WorkflowWorldError),
    (errors.RunNotFoundError("r"), 404, w.WorkflowWorldError),
    (errors.StepNotFoundError("s", "r"), 404, w.WorkflowWorldError),
    (errors.EventNotFoundError("r", "e"), 404, w.WorkflowWorldError),
    (errors.WaitNotFoundError("r", "x"), 404, w.WorkflowWorldError),
    (errors.MessageNotFoundError("m"), 404, w.WorkflowWorldError),
    (errors.HookNotFoundError(token="t"), 404, w.HookNotFoundError),  # noqa: S106
    (errors.HookNotFoundError(hook_id="h"), 404, w.HookNotFoundError),
    (errors.EntityConflictError("x"), 409, w.EntityConflictError),
    (errors.HookResumeConflictError("x"), 409, w.HookResumeConflictError),
    # No conflict of the SDK's: nobody has written what was refused, so a replay meets it again.
    (errors.LeaseLostError("m"), 409, w.WorkflowWorldError),
    (errors.StreamClosedError("r", "s"), 409, w.WorkflowWorldError),
    (errors.RunExpiredError("x"), 410, w.RunExpiredError),
    (errors.PayloadTooLargeError("x"), 413, w.WorkflowWorldError),
    (errors.RunNotSupportedError("r", 9, 7), 422, w.WorkflowWorldError),
    (errors.TooEarlyError("x", retry_after=3), 425, w.TooEarlyError),
    (errors.ThrottleError("x", retry_after=3), 429, w.ThrottleError),
    (errors.SchemaError("x"), 500, w.WorkflowWorldError),
    (errors.ConfigurationError("x"), 500, w.WorkflowWorldError),
    (errors.BackendError("x"), 500, w.WorkflowWorldError),
    (errors.BackendError("x", code="UNKNOWN_OUTCOME"), 500, w.WorkflowWorldError),
    (errors.WorldClosedError(), 503, w.WorkflowWorldError),
]


@pytest.mark.parametrize(
    ("error", "status", "theirs"), SAMPLES, ids=lambda value: getattr(value, "__name__", None)
)
def test_an_error_is_both(error: errors.WorldError, status: int, theirs: type[Exception]) -> None:
    twin = to_sdk(error)
    assert isinstance(twin, type(error))
    assert isinstance(twin, theirs)
    assert twin.status == status
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
    assert type(twin).__name__ == type(error).__name__
    if isinstance(twin, w.WorkflowWorldError):
        assert (twin.status, twin.code, twin.url) == (status, error.code, None)
    assert to_sdk(twin) is twin


def test_every_error_class_has_a_sample() -> None:
    classes = {
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, errors.WorldError)
    }
    assert {type(error) for error, _, _ in SAMPLES} == classes


def test_what_the_sdk_must_not_take_for_something_else() -> None:
    """It catches conflicts before anything else, and asks the others for their status."""
    for ours, theirs in (
        (errors.RunExpiredError, w.EntityConflictError),
        (errors.StreamClosedError, w.EntityConflictError),
        (errors.LeaseLostError, w.EntityConflictError),
        (errors.RunExpiredError, errors.EntityConflictError),
        (errors.EntityConflictError, w.WorkflowWorldError),
        (errors.HookNotFoundError, w.WorkflowWorldError),
        (errors.TooEarlyError, w.WorkflowWorldError),
    ):
        assert not issubclass(sdk_class(ours), theirs), (ours, theirs)
    assert issubclass(sdk_class(errors.HookResumeConflictError), w.EntityConflictError)
    assert issubclass(sdk_class(errors.ConfigurationError), ValueError)
    assert issubclass(sdk_class(errors.InvalidQueueNameError), ValueError)


def test_an_error_class_of_another_backend_has_a_twin() -> None:
    class DiskFullError(errors.BackendError):
        """Made elsewhere."""

    twin = to_sdk(DiskFullError("no room"))
    assert isinstance(twin, DiskFullError)
    assert isinstance(twin, w.WorkflowWorldError)
    assert sdk_class(DiskFullError) is sdk_class(DiskFullError) is type(twin)


class TestBorder:
    def test_keeps_the_cause_and_the_traceback(self) -> None:
        def fails() -> None:
            raise errors.BackendError("lost") from OSError("driver")

        with pytest.raises(w.WorkflowWorldError) as caught, BORDER:
            fails()
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__suppress_context__, "the error is shown once"
        assert "fails" in [entry.name for entry in caught.traceback]

    def test_hides_the_original_also_without_a_cause(self) -> None:
        with pytest.raises(w.EntityConflictError) as caught, BORDER:
            raise errors.EntityConflictError("taken")
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    def test_lets_everything_else_pass(self) -> None:
        for error in (TimeoutError("slow"), KeyboardInterrupt(), GeneratorExit()):
            with pytest.raises(type(error)) as caught, BORDER:
                raise error
            assert caught.value is error

    def test_translates_once(self) -> None:
        with pytest.raises(errors.WorldError) as caught, BORDER, BORDER:
            raise errors.RunNotFoundError("wrun_1")
        assert type(caught.value).__mro__.count(SdkError) == 1


@pytest.mark.anyio
class TestThroughTheAdapter:
    @pytest.fixture(autouse=True)
    async def run(self, sdk: SdkWorld) -> str:
        data = w.RunCreatedEventData(deployment_id="d", workflow_name="wf", input=b"")
        result = await sdk.events_create("wrun_1", data.into_event())
        assert result.run is not None
        return result.run.run_id

    async def test_missing_things(self, sdk: SdkWorld) -> None:
        with pytest.raises(w.WorkflowWorldError) as run:
            await sdk.runs_get("wrun_0")
        assert run.value.status == 404
        with pytest.raises(w.WorkflowWorldError, match="not found"):
            await sdk.steps_get("wrun_1", "step_0")
        with pytest.raises(w.HookNotFoundError) as token:
            await sdk.hooks_get_by_token("nobody's")
        assert (token.value.token, token.value.hook_id) == ("nobody's", None)
        with pytest.raises(w.HookNotFoundError) as hook:
            await sdk.events_create("wrun_1", w.HookDisposedEvent(correlation_id="hook_0"))
        assert (hook.value.token, hook.value.hook_id) == (None, "hook_0")

    async def test_conflicts(self, sdk: SdkWorld) -> None:
        with pytest.raises(w.EntityConflictError):
            await sdk.events_create(
                "wrun_1",
                w.RunCreatedEventData(
                    deployment_id="d", workflow_name="wf", input=b""
                ).into_event(),
            )
        await sdk.streams_close("wrun_1", "s")
        with pytest.raises(w.WorkflowWorldError) as closed:
            await sdk.streams_write("wrun_1", "s", b"late")
        assert closed.value.status == 409
        assert isinstance(closed.value, errors.StreamClosedError)

    async def test_a_hook_on_an_ended_run_is_gone_not_conflicting(self, sdk: SdkWorld) -> None:
        await sdk.events_create("wrun_1", w.RunCancelledEvent())
        with pytest.raises(w.RunExpiredError) as ended:
            await sdk.events_create(
                "wrun_1",
                w.HookCreatedEventData(token="t").into_event("hook_1"),  # noqa: S106
            )
        assert ended.value.status == 410
        assert not isinstance(ended.value, w.EntityConflictError)

    async def test_a_step_that_comes_too_early(self, sdk: SdkWorld) -> None:
        created = w.StepCreatedEventData(step_name="s", input=b"").into_event("step_1")
        await sdk.events_create("wrun_1", created)
        await sdk.events_create("wrun_1", w.StepStartedEvent(correlation_id="step_1"))
        in_an_hour = datetime.now(UTC) + timedelta(hours=1)
        retrying = w.StepRetryingEventData(error=b"", retry_after=in_an_hour)
        await sdk.events_create("wrun_1", retrying.into_event("step_1"))
        with pytest.raises(w.TooEarlyError) as early:
            await sdk.events_create("wrun_1", w.StepStartedEvent(correlation_id="step_1"))
        assert isinstance(early.value.retry_after, int)
        assert 3590 <= early.value.retry_after <= 3600

    async def test_a_closed_world(self, sdk: SdkWorld, world: World) -> None:
        await sdk.aclose()
        await sdk.aclose()
        with pytest.raises(errors.WorldClosedError) as closed:
            await sdk.runs_get("wrun_1")
        assert isinstance(closed.value, w.WorkflowWorldError)
        with pytest.raises(w.WorkflowWorldError):
            async for _ in sdk.streams_get("wrun_1", "s"):
                pass
