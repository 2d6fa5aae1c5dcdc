"""The grammar of queue names (spec 4.1, B115)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_world.core.queue_names import check_prefix, parse, workflow_queue
from workflow_world.errors import InvalidQueueNameError, InvalidRequestError

namespaces = st.none() | st.from_regex(r"[a-z][a-z0-9]*", fullmatch=True)
tails = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("name", "namespace", "kind", "tail", "route"),
    [
        ("__wkf_workflow_greet", None, "workflow", "greet", "flow"),
        ("__wkf_step_greet", None, "step", "greet", "step"),
        ("__ns1_wkf_workflow_a/b.py#c", "ns1", "workflow", "a/b.py#c", "flow"),
        ("__n_wkf_step_x", "n", "step", "x", "step"),
        ("__wkf_workflow__", None, "workflow", "_", "flow"),
        ("__wkf_workflow_grüße\n😀", None, "workflow", "grüße\n😀", "flow"),
        ("__wkf_wkf_workflow_x", "wkf", "workflow", "x", "flow"),
        ("__wkf_workflow___wkf_step_x", None, "workflow", "__wkf_step_x", "flow"),
    ],
)
def test_good_names(name: str, namespace: str | None, kind: str, tail: str, route: str) -> None:
    found = parse(name)
    assert (found.namespace, found.kind, found.tail, found.route) == (namespace, kind, tail, route)
    assert found.prefix + found.tail == name
    assert check_prefix(found.prefix) == found.prefix


@pytest.mark.parametrize(
    "name",
    [
        "",
        "greet",
        "__wkf_other_x",
        "__Foo_wkf_workflow_x",
        "__1foo_wkf_workflow_x",
        "__foo_bar_wkf_workflow_x",
        "__wkf_workflow_",
        "__ns_wkf_step_",
        "_wkf_workflow_x",
        " __wkf_workflow_x",
        "x__wkf_workflow_x",
        "__wkf_workflow",
        "__wkf_workflow_a\0b",
        "__wkf_workflow_\ud800",
        "__wkf_workflow_" + "x" * 2048,
        "__é_wkf_workflow_x",
        "__n١_wkf_workflow_x",
        "\n__wkf_workflow_x",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidQueueNameError) as caught:
        parse(name)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, InvalidRequestError)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "prefix", ["", "__wkf_", "__wkf_workflow", "_wkf_workflow_x", "__N_wkf_step_", "\n__wkf_step_"]
)
def test_bad_prefixes(prefix: str) -> None:
    with pytest.raises(InvalidQueueNameError):
        check_prefix(prefix)


@given(tails, namespaces)
def test_the_queue_of_a_workflow(name: str, namespace: str | None) -> None:
    found = parse(workflow_queue(name, namespace))
    assert (found.tail, found.namespace, found.kind) == (name, namespace, "workflow")


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except InvalidQueueNameError:
        return
    assert found.prefix + found.tail == text
