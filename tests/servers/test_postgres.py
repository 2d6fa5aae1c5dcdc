"""The helper itself: one server for all, until the last of them is done."""

from __future__ import annotations

import pytest

from . import postgres
from .postgres import _Shared


class Stub:
    """In place of a server, which takes seconds to make: what is tested is who stops it."""

    is_broken = False

    def __enter__(self) -> Stub:
        if self.is_broken:
            raise RuntimeError("nothing works")
        self.runs = True
        return self

    def remove(self) -> None:
        self.runs = False


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> _Shared:
    monkeypatch.setattr(postgres, "Postgres", Stub)
    return _Shared()


@pytest.mark.parametrize("first", [0, 1])
def test_who_shares_it_may_leave_in_any_order(shared: _Shared, first: int) -> None:
    both = [shared(), shared()]
    server, same = [one.__enter__() for one in both]
    assert server is same
    both[first].__exit__(None, None, None)
    assert server.runs
    both[1 - first].__exit__(None, None, None)
    assert not server.runs
    with shared() as another:
        assert another.runs
        assert another is not server


def test_one_that_cannot_start_is_not_shared(
    shared: _Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Stub, "is_broken", True)
        with pytest.raises(RuntimeError, match="nothing works"), shared():
            pass
    with shared() as server:
        assert server.runs
