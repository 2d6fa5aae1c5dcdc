"""The limits of run attributes and how changes are merged (spec 2.9, B088)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_world.core.attributes import changes_of, merged
from workflow_world.core.events import NewEvent
from workflow_world.core.rules_attribute import check_shape
from workflow_world.errors import InvalidAttributesError, InvalidRequestError


def refused(*changes: tuple[str, str | None], reserved: bool = False) -> str:
    with pytest.raises(InvalidAttributesError) as caught:
        merged({"old": "1"}, changes, reserved=reserved)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 400
    return str(caught.value)


def test_a_change_sets_and_a_null_removes() -> None:
    before = {"a": "1", "b": "2"}
    changes = [("a", None), ("c", ""), ("gone", None)]
    assert merged(before, changes, reserved=False) == {"b": "2", "c": ""}
    assert before == {"a": "1", "b": "2"}


@pytest.mark.parametrize("character", ["k", "é", "€"])
def test_keys_have_at_most_256_utf16_units(character: str) -> None:
    assert merged({}, [(character * 256, "v")], reserved=False) == {character * 256: "v"}
    assert "UTF-16" in refused((character * 257, "v"))


def test_a_character_beyond_the_basic_plane_counts_twice() -> None:
    assert merged({}, [("😀" * 128, "v")], reserved=False)
    assert "UTF-16" in refused(("😀" * 128 + "k", "v"))


@pytest.mark.parametrize(("character", "count"), [("v", 256), ("é", 128), ("€", 85), ("😀", 64)])
def test_values_have_at_most_256_bytes(character: str, count: int) -> None:
    assert merged({}, [("k", character * count)], reserved=False)
    assert "256 bytes" in refused(("k", character * (count + 1)))


def test_other_refusals() -> None:
    assert "empty" in refused(("", "v"))
    assert "empty" in refused(("", None))
    assert "more than once" in refused(("k", "1"), ("k", "2"))
    assert "more than once" in refused(("k", "1"), ("k", None))
    assert "reserved" in refused(("$k", "v"))
    assert "reserved" in refused(("$k", None))
    assert "Unicode" in refused(("\ud800", "v"))
    assert "Unicode" in refused(("k", "\ud800"))
    assert merged({}, [("$k", "v")], reserved=True) == {"$k": "v"}
    assert "empty" in refused(("", "v"), reserved=True)


def test_at_most_64_attributes_after_the_merge() -> None:
    full = {f"k{number}": "v" for number in range(64)}
    assert len(merged({}, list(full.items()), reserved=False)) == 64
    with pytest.raises(InvalidAttributesError, match="64"):
        merged(full, [("one more", "v")], reserved=False)
    assert merged(full, [("k0", "changed")], reserved=False)["k0"] == "changed"
    assert "new" in merged(full, [("new", "v"), ("k0", None)], reserved=False)
    over = {**full, "k64": "v", "k65": "v"}
    assert len(merged(over, [("k0", None)], reserved=False)) == 65


def test_the_forms_of_changes() -> None:
    assert changes_of(None) == []
    assert changes_of({"a": "1", "b": None}) == [("a", "1"), ("b", None)]
    assert changes_of([{"key": "a", "value": "1"}, {"key": "b"}]) == [("a", "1"), ("b", None)]


@pytest.mark.parametrize(
    "raw", ["a", 5, [["a", "1"]], [{"value": "1"}], [{"key": 5}], {"a": 5}, {5: "a"}, [None]]
)
def test_wrong_forms(raw: object) -> None:
    with pytest.raises(InvalidAttributesError):
        changes_of(raw)


@pytest.mark.parametrize(
    ("data", "correlation_id", "error"),
    [
        ({"changes": [{"key": "a"}], "writer": {"type": "workflow"}}, "c", None),
        ({"changes": [{"key": "a"}], "writer": {"type": "step"}}, None, None),
        ({"changes": [{"key": "a"}], "writer": {"type": "workflow"}}, None, InvalidRequestError),
        ({"changes": [{"key": "a"}], "writer": {"type": "step"}}, "c", InvalidRequestError),
        ({"changes": [{"key": "a"}], "writer": {"type": "other"}}, "c", InvalidRequestError),
        ({"changes": [{"key": "a"}], "writer": "workflow"}, "c", InvalidRequestError),
        ({"changes": [], "writer": {"type": "workflow"}}, "c", InvalidAttributesError),
        ({"changes": [{"key": "$a"}], "writer": {"type": "workflow"}}, "c", InvalidAttributesError),
        (
            {
                "changes": [{"key": "$a"}],
                "writer": {"type": "workflow"},
                "allowReservedAttributes": True,
            },
            "c",
            None,
        ),
    ],
)
def test_the_shape_of_attr_set(
    data: dict[str, Any], correlation_id: str | None, error: type[Exception] | None
) -> None:
    event = NewEvent(event_type="attr_set", correlation_id=correlation_id, event_data=data)
    if error is None:
        check_shape(event)
    else:
        with pytest.raises(error):
            check_shape(event)


@given(
    st.dictionaries(st.text(max_size=300), st.text(max_size=300), max_size=5),
    st.lists(st.tuples(st.text(max_size=300), st.none() | st.text(max_size=300)), max_size=5),
)
def test_a_merge_is_complete_or_refused(
    before: dict[str, str], changes: list[tuple[str, str | None]]
) -> None:
    try:
        after = merged(before, changes, reserved=True)
    except InvalidAttributesError:
        return
    for key, value in changes:
        assert after.get(key) == value
    for key in before.keys() - dict(changes).keys():
        assert after[key] == before[key]
