"""The startup check: what it takes to load a model and run it once, in one fresh process after another."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

from harness.check.context import Context
from harness.check.sessions import Found, decided, held_device, made_feed
from harness.device import Device
from harness.errors import RunError
from harness.host.child_process import peak_bytes, run_in_child
from harness.host.page_cache import drop_from_cache, read_into_cache
from harness.host.patience import HANG_S
from harness.judge.verdict import Verdict
from harness.measure.measurement import json_lines
from harness.measure.startup import CACHES, Cache, StartTiming, startup_measurement
from harness.spec import DeviceModel

# A cold start and a warm one.
Pair = tuple[StartTiming, StartTiming]


def check_startup(context: Context) -> Found:
    """Start a cell cold and warm in turns, until the limits can be judged or the plan ends."""
    batch, plan = context.cell.batch, context.tier.timing_for(context.cell)

    def look(pairs: list[Pair]) -> Verdict:
        return context.judge(startup_measurement(list(itertools.chain(*pairs)), batch))

    limits = context.limits.startup
    # Memory is the same beside other checks, time is not.
    shares_host = limits is not None and not limits.limits_time
    with held_device(context, shares_host=shares_host) as (device, model):
        pairs, verdict = decided(_pairs(context, device, model), plan, look)
    starts = list(itertools.chain(*pairs))
    raw = {"starts": (json_lines(starts), ".jsonl")}
    return Found(startup_measurement(starts, batch), verdict, raw)


def _pairs(context: Context, device: Device, model: DeviceModel) -> Iterator[Pair]:
    for number in itertools.count(1):
        title = f"{context.cell.id} start {number}"
        beat = context.bench.progress.heartbeat
        cold, warm = (
            run_in_child(
                start_once,
                *(device, model, cache),
                heartbeat=beat(f"{title} {cache}"),
                timeout_s=HANG_S,
                failure=RunError,
            )[0]
            for cache in CACHES
        )
        yield cold, warm


def start_once(device: Device, model: DeviceModel, cache: Cache) -> StartTiming:
    """Start once; runs in its own process.

    Raises:
        RunError: the device failed.
    """
    is_cold, reached = cache == "cold", list[bool]()

    def prepare(path: Path) -> None:
        reached.append((drop_from_cache if is_cold else read_into_cache)(path))

    start = device.start(model, made_feed(model.onnx.inputs), prepare)
    if start.host_peak_mb is None:
        start = dataclasses.replace(start, host_peak_mb=peak_bytes() / 1e6 or None)
    is_prepared = bool(reached) and all(reached)
    return StartTiming(cache=cache if is_prepared else None, **dataclasses.asdict(start))
