"""The MongoDB server of the tests: it answers, and forgets what a test leaves."""

from __future__ import annotations

import pytest

from . import mongodb


@pytest.mark.parametrize("streams", [False, True], ids=["plain", "streams"])
def test_it_answers_and_a_database_goes_at_its_end(streams: bool) -> None:
    with mongodb.running(streams=streams) as server:
        with server.database() as url:
            name = url.rpartition("/")[2].partition("?")[0]
            server.collection(name, "things").insert_one({"_id": 1})
            assert server.collection(name, "things").count_documents({}) == 1
        assert server.collection(name, "things").count_documents({}) == 0
