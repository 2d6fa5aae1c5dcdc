"""A Hrana stream: statements go out as one batch, in which each runs only if the one before did.

Never as separate requests of a pipeline: the server goes on after an error, so when a transaction
was rolled back under us, what follows would be committed by itself (seen on sqld 0.24).

A stream is open while a transaction is. Outside of one, every batch closes its own: an idle
stream expires after ten seconds, and the server has only so many.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from .errors import (
    DataError,
    Error,
    OperationalError,
    TransactionLostError,
    UnknownOutcomeError,
    server_error,
)
from .results import Pending, read_result
from .transport import Failure, Transport
from .values import Json

_IN_TRANSACTION: Final[Json] = {"type": "not", "cond": {"type": "is_autocommit"}}
_MALFORMED: Final = (KeyError, TypeError, ValueError, IndexError, AttributeError)
_GOODBYE_S: Final = 5.0


class Stream:
    """``is_open``: the server holds a transaction of ours."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._base = transport.location.base
        self._baton: str | None = None
        self._lost: tuple[str, str] | None = None

    @property
    def is_open(self) -> bool:
        return self._baton is not None

    def forget(self) -> None:
        """Let go without a word: it was lost, or is another process's."""
        self._baton, self._base = None, self._transport.location.base
        self._lost = None

    def run(self, batch: Sequence[Pending], *, close: bool) -> bool:
        """Send the statements and fill in their results and errors.

        The first that fails ends the batch; the rest stay without either. With ``close`` the
        server rolls back what the batch left open.

        Returns: whether a transaction is open now. Raises: OperationalError when there is no
        answer, see ``_failed``; the stream is then forgotten.
        """
        body = self._body(batch, close)
        began_open, before = self.is_open, (self._base, self._baton)
        try:
            answer = self._transport.post(self._base, body)
            try:
                return self._read(answer, batch, close, began_open)
            except _MALFORMED as error:
                raise Failure(
                    f"The server's answer is not Hrana: {type(error).__name__}", maybe=True
                ) from None
        except Failure as failure:
            self.forget()
            base, baton = before
            self._lost = None if baton is None else (base, baton)
            raise self._failed(failure, batch, began_open) from None
        except BaseException:
            # Interrupted: the answer, and the next baton with it, is lost.
            self.forget()
            raise

    def roll_back(self) -> None:
        """End the transaction at once, so that nobody waits for its lock.

        One whose last request got no answer, too: if it did not arrive, the lock is still held.
        Never raises: a server that cannot be reached rolls back by itself, within ten seconds.
        """
        base, baton = self._base, self._baton
        if baton is None:
            if self._lost is None:
                return
            base, baton = self._lost
        steps = [{"stmt": {"sql": "ROLLBACK"}, "condition": _IN_TRANSACTION}]
        requests: list[Json] = [{"type": "batch", "batch": {"steps": steps}}, {"type": "close"}]
        body = _dump({"baton": baton, "requests": requests})
        self.forget()
        try:
            self._transport.post(base, body, timeout=_GOODBYE_S)
        except Failure:
            return

    # --- a batch ---------------------------------------------------------------------------

    def _body(self, batch: Sequence[Pending], close: bool) -> bytes:
        steps: list[Json] = []
        for number, pending in enumerate(batch):
            step: Json = {"stmt": pending.stmt}
            if number:
                step["condition"] = {"type": "ok", "step": number - 1}
            elif self.is_open:
                step["condition"] = _IN_TRANSACTION
            steps.append(step)
        last: Json = {"type": "close" if close else "get_autocommit"}
        requests: list[Json] = [{"type": "batch", "batch": {"steps": steps}}, last]
        return _dump({"baton": self._baton, "requests": requests})

    def _read(self, answer: Json, batch: Sequence[Pending], close: bool, began_open: bool) -> bool:
        outcome, last = answer["results"]
        in_transaction = not close and _response(last)["is_autocommit"] is False
        if in_transaction:
            self._baton = str(answer["baton"])
            self._base = self._redirected(answer.get("base_url"))
        else:
            self.forget()
        if outcome["type"] == "error":
            # Nothing ran (a mistake in the text of one), or the answer grew too large.
            batch[0].error = _whole(_error(outcome["error"]), batch, began_open)
            return in_transaction
        result = _response(outcome)["result"]
        for pending, done, error in zip(
            batch, result["step_results"], result["step_errors"], strict=True
        ):
            if error is not None:
                pending.error = _error(error)
                break
            if done is None:
                break
            try:
                pending.result = read_result(pending.statement, done)
            except DataError as unreadable:
                pending.error = unreadable
        if began_open and not batch[0].is_done:
            batch[0].error = TransactionLostError(
                "The transaction is gone: the server rolled it back", disconnected=True
            )
        return in_transaction

    def _redirected(self, base: str | None) -> str:
        """Where the stream goes on: servers behind a balancer name themselves."""
        if base is None:
            return self._base
        scheme = urlsplit(base).scheme
        if scheme not in ("http", "https") or (scheme == "http" and self._base.startswith("https")):
            raise Failure("The server redirects the stream to a URL that is not safe", maybe=True)
        return base.rstrip("/")

    def _failed(self, failure: Failure, batch: Sequence[Pending], began_open: bool) -> Error:
        """What no answer means: depends on whether something may have been committed."""
        told: dict[str, Any] = {"code": failure.code, "http_status": failure.status}
        if failure.maybe and _may_commit(batch, began_open):
            return UnknownOutcomeError(
                f"{failure.text}; what was to be committed may have been, or not",
                disconnected=True,
                **told,
            )
        if began_open:
            return TransactionLostError(
                f"{failure.text}; the transaction is lost, nothing was committed",
                disconnected=True,
                **told,
            )
        if failure.status == 413:
            return DataError(failure.text, **told)
        gone = failure.status is None or failure.status >= 500 or failure.status == 200
        return OperationalError(failure.text, disconnected=gone, **told)


def _may_commit(batch: Sequence[Pending], open_before: bool) -> bool:
    """Whether some statement, by itself or as COMMIT, makes a change last."""
    is_open = has_changed = open_before
    for pending in batch:
        kind = pending.statement.kind
        if kind == "begin":
            is_open, has_changed = True, False
        elif kind == "commit":
            if has_changed:
                return True
            is_open = False
        elif kind not in ("read", "rollback"):
            if not is_open:
                return True
            has_changed = True
    return False


def _whole(error: Error, batch: Sequence[Pending], open_before: bool) -> Error:
    """An error of the batch as such. A COMMIT at its end did not run; a change by itself did."""
    ran = batch[:-1] if batch[-1].statement.kind == "commit" else batch
    if error.code == "RESPONSE_TOO_LARGE" and _may_commit(ran, open_before):
        return UnknownOutcomeError(f"{error}; a change may have been committed", code=error.code)
    return error


def _response(result: Json) -> Json:
    if result["type"] != "ok":
        raise ValueError(result["type"])
    response: Json = result["response"]
    return response


def _error(raw: Json) -> Error:
    return server_error(str(raw["message"]), raw.get("code"))


def _dump(request: Json) -> bytes:
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
