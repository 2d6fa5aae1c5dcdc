"""The targets are data: that they name what is measured, and are judged the right way round."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import machine, plot, report
from benchmarks.contenders import CONTENDERS_BY_NAME
from benchmarks.measure import Values
from benchmarks.plan import MEASURES, WORKLOADS
from benchmarks.targets import verdicts


def _found(values: Values) -> dict[str, object]:
    return report.results(values, machine.describe(), "python -m benchmarks", 1, [])


def test_a_measure_has_one_name() -> None:
    assert len(MEASURES) == sum(len(workload.measures) for workload in WORKLOADS)


def test_every_target_is_about_figures_that_are_measured() -> None:
    for workload in WORKLOADS:
        for measure in workload.measures:
            for target in measure.targets:
                sides = [target.subject] if target.peer is None else [target.subject, target.peer]
                for name in sides:
                    assert workload.name in CONTENDERS_BY_NAME[name].workloads


@pytest.mark.parametrize(
    ("measure", "figures", "expected"),
    [
        ("drain", {"ours": 400.0, "local": 100.0}, {("local", 4.0): True}),
        ("drain", {"ours": 399.0, "local": 100.0}, {("local", 3.99): False}),
        ("drain", {"ours": 600.0, "huey": 300.0}, {("huey", 2.0): True}),
        ("drain", {"ours": 9.0, "ours-10k-runs": 7.0}, {("ours", 7 / 9): False}),
        ("pick_up", {"ours": 3.0}, {(None, 3.0): True}),
        ("pick_up", {"ours": 3.5, "local": 99.0}, {(None, 3.5): False}),
        ("sequential_10", {"ours": 1.25, "floor": 1.0}, {("floor", 1.25): True}),
        ("sequential_10", {"ours": 1.3, "floor": 1.0}, {("floor", 1.3): False}),
        ("sequential_10", {"ours": 1.0, "ours-1m-messages": 1.1}, {("ours", 1.1): True}),
        ("hook_by_token", {"local": 1.0}, {}),
        ("idle_statements", {"ours": 1.0}, {}),
    ],
)
def test_a_target_is_met_or_not(
    measure: str, figures: dict[str, float], expected: dict[tuple[str | None, float], bool]
) -> None:
    found = _found({measure: {name: [value] for name, value in figures.items()}})
    judged = {(one.target.peer, one.value): one.met for one in verdicts(found)}
    assert judged == pytest.approx(expected)


def test_a_ratio_is_that_of_the_rounds_and_not_of_the_medians() -> None:
    slow_then_quick: Values = {"drain": {"ours": [10.0, 20.0, 90.0], "local": [10.0, 5.0, 30.0]}}
    assert [one.value for one in verdicts(_found(slow_then_quick))] == [3.0]
    one_failed: Values = {"drain": {"ours": [10.0, 30.0], "local": [10.0, 5.0, 30.0]}}
    assert [one.value for one in verdicts(_found(one_failed))] == [2.0]


def test_the_table_says_what_was_wanted_and_found() -> None:
    values: Values = {
        "drain": {"ours": [400.0], "ours-10k-runs": [200.0], "local": [100.0]},
        "pick_up": {"ours": [2.5]},
    }
    text = report.markdown(_found(values))
    assert "| Drain 5,000 no-op messages, /s ↑ | ≥ 4 × `local` | 4 | yes |" in text
    assert (
        "| Drain 5,000 no-op messages, /s ↑, `ours-10k-runs` | ≥ 0.833 × `ours` | 0.5 | **no** |"
        in text
    )
    assert "| Idle pick-up, p50, ms ↓ | ≤ 3 ms | 2.5 | yes |" in text


def test_the_plot_is_drawn_and_repeatable(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    values: Values = {
        "drain": {"ours": [400.0], "local": [100.0], "floor": [9_000.0]},
        "sequential_10": {"ours": [2.0], "floor": [1.0]},
    }
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    assert plot.draw(first, _found(values))
    assert plot.draw(second, _found(values))
    assert first.read_text() == second.read_text()
    assert not plot.draw(tmp_path / "none.svg", _found({"idle_cpu": {"ours": [1.0]}}))
