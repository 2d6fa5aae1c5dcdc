"""Each workload once with tiny sizes, so that the benchmarks keep running. No time is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import machine, report
from benchmarks.__main__ import main
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.filled import Filled
from benchmarks.measure import MeasurementError, in_child
from benchmarks.plan import BY_NAME, TINY
from benchmarks.servers import NoServerError, Servers

ANYBODY = [
    pytest.param(one, id=one.name, marks=[pytest.mark.servers] if one.server else [])
    for one in CONTENDERS
]


@pytest.mark.parametrize("contender", ANYBODY)
def test_every_workload_gives_its_measures(contender: Contender, tmp_path: Path) -> None:
    if contender.missing:
        pytest.skip(f"{contender.needs} is not installed: pip install {contender.needs}")
    kept = tmp_path / "kept"
    kept.mkdir()
    prepared = Filled(kept, TINY).path(contender.name)
    found = dict[str, dict[str, float]]()
    with Servers(tmp_path) as servers:
        try:
            server = servers.url(contender.name)
        except NoServerError as error:
            pytest.skip(str(error))
        for number, workloads in enumerate(_processes(contender)):
            directory = tmp_path / str(number)
            directory.mkdir()
            found |= in_child(contender.name, workloads, TINY, directory, prepared, server)
    assert set(found) == set(contender.workloads)
    for workload, figures in found.items():
        expected = {measure.name for measure in BY_NAME[workload].measures}
        if contender.name in ("ours", "local", "floor"):
            assert set(figures) == expected
        assert set(figures) <= expected
        nothing = {name for name, value in figures.items() if value <= 0}
        assert nothing <= {"idle_queries"}  # where only a commit is a reason to read


def _processes(contender: Contender) -> list[list[str]]:
    """All workloads in one process; but a process has only one set of LocalWorld's handlers."""
    apart = ["drain", "pick_up"] if contender.name == "local" else []
    together = [name for name in contender.workloads if name not in apart]
    return [together, *([name] for name in apart)]


def test_a_failed_measurement_says_why(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="KeyError"):
        in_child("nobody", ["enqueue_50"], TINY, tmp_path)


def test_the_command_writes_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results"
    arguments = ["--tiny", "--rounds", "1", "--workloads", "enqueue_50"]
    assert main([*arguments, "--contenders", "ours,floor,raw", "--out", str(out)]) == 0
    found = json.loads((out / "results.json").read_text())
    (row,) = found["measures"]
    assert {name: len(values) for name, values in row["values"].items()} == {
        "ours": 1,
        "floor": 1,
        "raw": 1,
    }
    assert found["command"].endswith(str(out))
    assert "| Enqueue, 50 callers, /s ↑ |" in capsys.readouterr().out


def test_an_unknown_workload_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"Unknown: drainage\. Known: step_events_1"):
        main(["--workloads", "drainage", "--out", str(tmp_path)])


@pytest.mark.parametrize("size", ["memory_run=1", "drained=few", "drained=0", "idle_s"])
def test_a_size_that_cannot_be_is_refused(size: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"Unknown size|must be"):
        main(["--tiny", "--size", size, "--out", str(tmp_path)])


def test_the_table_gives_ratios_and_goes_between_the_marks(tmp_path: Path) -> None:
    values = {
        "drain": {"ours": [400.0, 420.0, 380.0], "local": [100.0, 90.0, 110.0]},
        "pick_up": {"ours": [2.0, 3.0, 2.5], "local": [4.0, 2.6, 5.0]},
    }
    found = report.results(values, machine.describe(), "python -m benchmarks", 3, [])
    text = report.markdown(found)
    assert "| Drain 5,000 no-op messages, /s ↑ | **4** |" in text
    assert "| Idle pick-up, p50, ms ↓ | *0.5* |" in text, "of the rounds, which overlap"
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nearlier figures\n{report.END}\nafter\n")
    report.insert(page, text)
    report.insert(page, text)
    assert page.read_text().count(text) == 1
    assert "earlier figures" not in page.read_text()
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no"):
        report.insert(page, text)
