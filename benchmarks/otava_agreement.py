"""Whether harness/nightly/change_points.py finds what Apache Otava finds, on simulated nights.

Otava pins another NumPy, so it needs its own environment and the check is optional:
    python3.11 -m venv /tmp/otava && /tmp/otava/bin/pip install apache-otava==0.8.0
    .venv/bin/python benchmarks/otava_agreement.py --otava /tmp/otava/bin/python

After removing a point, Otava 0.8.0 re-weighs the two points to its right and forgets the one to
its left, whose level has changed too. So the figure is given twice: against Otava as released,
and, for the goal, against a corrected Otava that re-weighs both neighbours.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
from measured import finish

from harness.nightly.change_points import change_points

GOAL = 1.0
MAX_P, MIN_MAGNITUDE, WINDOW = 0.001, 0.02, 50
OTAVA = """
import inspect, json, sys
from otava import analysis

def found(series):
    answers = []
    for values in series:
        points, _ = analysis.compute_change_points(
            values, window_len=50, max_pvalue=0.001, min_magnitude=0.02
        )
        answers.append([[int(p.index), float(p.stats.mean_1), float(p.stats.mean_2)] for p in points])
    return answers

series = json.load(sys.stdin)
released = found(series)
old = "recompute(weakest_cp_index)\\n        recompute(weakest_cp_index + 1)"
new = "recompute(weakest_cp_index - 1)\\n        recompute(weakest_cp_index)"
source = inspect.getsource(analysis.merge)
assert old in source, "this is not Otava 0.8.0"
exec(source.replace(old, new), analysis.__dict__)
print(json.dumps([released, found(series)]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--otava", default="/tmp/otava/bin/python", help="python that has Otava")
    python = parser.parse_args().otava
    cases = _cases()
    names, series = [name for name, _ in cases], [values for _, values in cases]
    done = subprocess.run(
        [python, "-c", OTAVA], input=json.dumps(series), capture_output=True, text=True, check=True
    )
    released, corrected = json.loads(done.stdout)
    ours = [
        change_points(values, window=WINDOW, max_p=MAX_P, min_magnitude=MIN_MAGNITUDE)
        for values in series
    ]
    print(f"  {'series':<24}{'as released':>14}{'both neighbours':>18}{'of':>5}")
    answers = [
        (name, _is_same(found, first), _is_same(found, second))
        for name, found, first, second in zip(names, ours, released, corrected, strict=True)
    ]
    for group in dict.fromkeys(names):
        rows = [answer for answer in answers if answer[0] == group]
        counts = [sum(row[column] for row in rows) for column in (1, 2)]
        print(f"  {group:<24}{counts[0]:>14}{counts[1]:>18}{len(rows):>5}")
    shares = [sum(answer[column] for answer in answers) / len(answers) for column in (1, 2)]
    points = sum(map(len, corrected))
    note = f"{points} change points in {len(series)} series; as released {shares[0]:.3f} agree"
    return finish("otava_agreement", shares[1], GOAL, at_least=True, note=note)


def _is_same(found, expected) -> bool:
    if [point.index for point in found] != [index for index, _, _ in expected]:
        return False
    means = [(point.before, point.after) for point in found]
    return np.allclose(means, [pair[1:] for pair in expected], rtol=1e-9) if means else True


def _cases() -> list[tuple[str, list[float]]]:
    rng = np.random.default_rng(20261125)
    cases = []
    for cv in (0.01, 0.02, 0.03, 0.05):
        for _ in range(25):
            noise = rng.normal(1.0, cv, 160)
            cases.append((f"CV {100 * cv:.0f} %, no change", noise))
            for drop in (0.02, 0.05, 0.10):
                step = np.where(np.arange(160) < rng.integers(20, 150), 1.0, 1.0 - drop)
                cases.append((f"CV {100 * cv:.0f} %, one drop", noise * step))
            steps = np.repeat([1.0, 0.9, 1.0, 0.95], 40)
            cases.append((f"CV {100 * cv:.0f} %, three changes", noise * steps))
            drift = 1.0 - 0.005 * np.maximum(0, np.arange(160) - 120)
            cases.append((f"CV {100 * cv:.0f} %, drift", noise * drift))
    return [(name, [float(100.0 * value) for value in values]) for name, values in cases]


if __name__ == "__main__":
    sys.exit(main())
