"""Reads event files with TensorBoard's own reader, and holds them to the metrics.jsonl that they lie beside.

Usage: python read.py RUN_FOLDER, of a run with `--tensorboard`. Exit status 1 where a step, a name or a number differs.
"""

import json
import math
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def check(metrics: Path) -> int:
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    files = list(metrics.parent.glob("*.tfevents.*"))
    assert len(files) == 1, f"{metrics.parent}: one event file was expected, there are {len(files)}"
    events = EventAccumulator(str(metrics.parent), size_guidance={"scalars": 0}).Reload()
    expected = {name: {} for row in rows for name in row if name != "step"}
    for row in rows:
        for name in row.keys() - {"step"}:
            expected[name][row["step"]] = row[name]
    assert set(events.Tags()["scalars"]) == set(expected), f"{metrics}: {events.Tags()['scalars']}"
    for name, values in expected.items():
        found = {scalar.step: scalar.value for scalar in events.Scalars(name)}
        assert found.keys() == values.keys(), f"{metrics}: steps of {name}: {sorted(found)}"
        for step, value in values.items():
            assert math.isclose(found[step], value, rel_tol=1e-6, abs_tol=1e-30), f"{metrics}: {name} at {step}: {found[step]}, not {value}"
    return sum(map(len, expected.values()))


def main() -> None:
    files = sorted(Path(sys.argv[1]).glob("seed-*/sft/metrics.jsonl")) + sorted(Path(sys.argv[1]).glob("seed-*/policies/*/metrics.jsonl"))
    assert files, f"{sys.argv[1]} has no metrics.jsonl"
    for metrics in files:
        print(f"{metrics}: {check(metrics)} numbers read by TensorBoard as they were written")


main()
