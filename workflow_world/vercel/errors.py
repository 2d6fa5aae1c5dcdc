"""Our errors -> errors that are the SDK's too, so that ``except`` works with either name.

For each of our classes there is one that derives from it and from the SDK's class of the same
meaning (spec 7). It is made on first use, so an error class of another backend has its twin too.
"""

from __future__ import annotations

from functools import cache
from types import TracebackType
from typing import Final, cast

from vercel.workflow._internal import attributes as a
from vercel.workflow._internal import world as w

from .. import errors

_SDK_CLASSES: Final[tuple[tuple[type[errors.WorldError], tuple[type[Exception], ...]], ...]] = (
    # The first row that fits counts. In the SDK conflicts, missing hooks and early steps are no
    # WorkflowWorldErrors; a StreamClosedError must be nothing else, because the SDK takes any
    # EntityConflictError for "somebody else did it already" (spec 5.4). Nor must what a delivery
    # without a lease wrote: the SDK would replay at once, until somebody else has written it.
    (errors.LeaseLostError, (w.WorkflowWorldError,)),
    (errors.HookResumeConflictError, (w.HookResumeConflictError,)),
    (errors.EntityConflictError, (w.EntityConflictError,)),
    (errors.HookNotFoundError, (w.HookNotFoundError,)),
    (errors.TooEarlyError, (w.TooEarlyError,)),
    (errors.RunExpiredError, (w.RunExpiredError,)),
    (errors.ThrottleError, (w.ThrottleError,)),
    (errors.InvalidAttributesError, (w.WorkflowWorldError, a.AttributeValidationError)),
)
_ANY_OTHER: Final = (w.WorkflowWorldError,)


class SdkError:
    """Mixed into every error that the adapter raises. ``url`` is an attribute the SDK expects."""

    url: str | None = None


@cache
def sdk_class(ours: type[errors.WorldError]) -> type[errors.WorldError]:
    """The class that is ``ours`` and the SDK's counterpart at once."""
    if issubclass(ours, SdkError):
        return ours
    theirs = next((sdk for base, sdk in _SDK_CLASSES if issubclass(ours, base)), _ANY_OTHER)
    made = type(ours.__name__, (SdkError, ours, *theirs), {"__doc__": ours.__doc__})
    return cast("type[errors.WorldError]", made)


def to_sdk(error: errors.WorldError) -> errors.WorldError:
    """The same error, with its attributes, as the class that the SDK knows."""
    if isinstance(error, SdkError):
        return error
    made = sdk_class(type(error))  # type: ignore[arg-type]  # mypy doubts that classes hash
    # Not through __init__: each class has its own parameters, and all they set is copied here.
    twin = made.__new__(made, *error.args)
    twin.__dict__.update(error.__dict__)
    return twin


class Border:
    """``with BORDER:`` lets our errors out as the SDK's; everything else passes untouched."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, errors.WorldError) and not isinstance(error, SdkError):
            # The cause stays the driver's error; the original stays out of the picture.
            raise to_sdk(error).with_traceback(traceback) from error.__cause__


BORDER: Final = Border()
