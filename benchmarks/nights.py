"""The nightly gate on simulated nights with a known truth, beside two rules that are in use.

Each series has 30 quiet nights, of which the first ten make the frozen baseline, and then either
nothing, a drop, a drift of 0.5 % a night, or one outlier night. Noise is normal with the CV given.
A series is judged as one of a matrix of 36 (Holm's strictest step). ``delay`` is the night of the
first alarm, 1 being the night of the change itself; a change not found in 20 nights is missed.
False alarms count every red night, so that one that stays red for a week counts seven times: they
come in clusters, and the interval is that of whole series drawn again. Other nights: nights.py SEED.
"""

import dataclasses
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from measured import finish

from harness.nightly.baseline import BaselineSeries
from harness.nightly.comparison import RULES, Past, against_baseline, changed_levels
from harness.nightly.series import Point, Series, SeriesKey
from harness.spec import Status

MATRIX = 36
QUIET, FROZEN, WATCHED, AFTER = 30, 10, 60, 20
CVS = (0.01, 0.02, 0.03, 0.05)
DROPS = (0.02, 0.03, 0.05, 0.10)
DRIFT = 0.005
OUTLIER = 0.15
CHANGED_SERIES = 200
# By CV; of the rules in use 300 series tell enough, as they are red all the time.
FALSE_SERIES = {0.02: 1500, 0.03: 1500}
FEW_SERIES = 300
RULES_OF_ONE = dataclasses.replace(RULES, family_p=RULES.family_p / MATRIX)
KEY = SeriesKey("m", "cpu", 1, "throughput", "device_io.x_pytorch", "simulated")

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0

Judge = Callable[[np.ndarray], bool]


def gate(values: np.ndarray) -> bool:
    """Judge the last night as the nightly gate does."""
    entry = BaselineSeries(
        **dataclasses.asdict(KEY), values=tuple(float(value) for value in values[:FROZEN])
    )
    points = tuple(Point("", "2026-01-01", float(value), Status.PASS, {}) for value in values)
    past = Past(Series(KEY, points), entry, len(values) - FROZEN)
    return bool(against_baseline([past], RULES_OF_ONE)) or bool(changed_levels([past])[0])


def last_night(values: np.ndarray) -> bool:
    """Judge by 5 % against last night."""
    return bool(values[-1] < 0.95 * values[-2])


def rolling_mean(values: np.ndarray) -> bool:
    """Judge by 5 % against the mean of the seven nights before."""
    return bool(values[-1] < 0.95 * values[-8:-1].mean())


JUDGES: dict[str, Judge] = {
    "gate": gate,
    "5 % against last night": last_night,
    "5 % against rolling mean": rolling_mean,
}


def false_alarms(name: str, cv: float) -> tuple[float, float, float]:
    """Return red nights per 100 nights and series without any change, and a 95 % interval of it."""
    rng = np.random.default_rng([SEED, 7])
    judge = JUDGES[name]
    count = FALSE_SERIES.get(cv, FEW_SERIES) if name == "gate" else FEW_SERIES
    red = np.zeros(count)
    for row in range(count):
        values = rng.normal(1.0, cv, QUIET + WATCHED)
        red[row] = sum(judge(values[: night + 1]) for night in range(QUIET, len(values)))
    means = rng.choice(red, (2000, count)).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return tuple(float(100.0 * value / WATCHED) for value in (red.mean(), low, high))


def delays(judge: Judge, cv: float, factors: np.ndarray) -> np.ndarray:
    """Return for each series the night of the first alarm; infinite if it is missed."""
    rng = np.random.default_rng([SEED, 11])
    found = np.full(CHANGED_SERIES, np.inf)
    for row in range(CHANGED_SERIES):
        values = rng.normal(1.0, cv, QUIET + AFTER)
        values[QUIET:] *= factors
        nights = range(QUIET, len(values))
        found[row] = next(
            (night - QUIET + 1 for night in nights if judge(values[: night + 1])), np.inf
        )
    return found


def outliers(judge: Judge, cv: float) -> tuple[float, float]:
    """Return how often one night of -15 % is red that night, and any of the ten nights after."""
    rng = np.random.default_rng([SEED, 13])
    same, later = 0, 0
    for _ in range(CHANGED_SERIES):
        values = rng.normal(1.0, cv, QUIET + 11)
        values[QUIET] *= 1.0 - OUTLIER
        same += judge(values[: QUIET + 1])
        later += any(judge(values[: QUIET + 2 + night]) for night in range(10))
    return same / CHANGED_SERIES, later / CHANGED_SERIES


def _delay(found: np.ndarray) -> str:
    missed = int(np.isinf(found).sum())
    middle = np.median(found)
    text = "-" if np.isinf(middle) else f"{middle:g}"
    return f"{text} ({missed} missed)"


def measured(task: tuple[str, float]) -> tuple[str, dict[str, float]]:
    """Return the row of a judge at one CV, and its figures."""
    name, cv = task
    judge = JUDGES[name]
    alarms, low, high = false_alarms(name, cv)
    drops = {drop: delays(judge, cv, np.full(AFTER, 1.0 - drop)) for drop in DROPS}
    drifts = delays(judge, cv, 1.0 - DRIFT * np.arange(1, AFTER + 1))
    in_time = float((drifts * DRIFT < 0.06 - 1e-9).mean())
    same, later = outliers(judge, cv)
    columns = "".join(f"{_delay(drops[drop]):>18}" for drop in DROPS)
    row = (
        f"  {100 * cv:.0f} %{f'{alarms:.3f} ({low:.2f} to {high:.2f})':>24}{columns}"
        f"{_delay(drifts):>18}{100 * in_time:>11.0f} %{100 * same:>18.0f} %{100 * later:>6.0f} %"
    )
    return row, {
        "false": alarms,
        "5 %": float(np.median(drops[0.05])),
        "10 %": float(np.median(drops[0.10])),
        "drift": 100.0 * DRIFT * float(np.median(drifts)),
    }


def main() -> int:
    columns = "".join(f"{f'{100 * drop:.0f} % drop':>18}" for drop in DROPS)
    figures: dict[tuple[float, str], float] = {}
    with ProcessPoolExecutor(mp_context=get_context("fork")) as pool:
        tasks = [(name, cv) for name in JUDGES for cv in CVS]
        for (name, cv), (row, found) in zip(tasks, pool.map(measured, tasks), strict=True):
            if cv == CVS[0]:
                print(
                    f"{name}\n  CV{'false/100 (95 %)':>23}{columns}{'drift':>18}"
                    f"{'found < 6 %':>13}{'outlier: same night, after':>28}"
                )
            print(row, flush=True)
            if name == "gate":
                figures |= {(cv, what): value for what, value in found.items()}
    return _goals(figures)


def _goals(figures: dict[tuple[float, str], float]) -> int:
    goals = [
        ("false alarms per 100 nights and series, CV 3 %", figures[0.03, "false"], 0.2),
        ("nights until a 5 % drop is found, median, CV 2 %", figures[0.02, "5 %"], 3.0),
        ("nights until a 10 % cliff is found, median, CV 2 %", figures[0.02, "10 %"], 1.0),
        ("drift when it is found, %, median, CV 2 %", figures[0.02, "drift"], 6.0 - 100 * DRIFT),
    ]
    for name, figure, goal in goals:
        print(f"  {name:<54}{figure:8.3g} (goal <= {goal:g})")
    met = sum(figure <= goal for _, figure, goal in goals)
    return finish("nights", met, len(goals), at_least=True, note="figure: goals met")


if __name__ == "__main__":
    sys.exit(main())
