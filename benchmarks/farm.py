"""A farm on this machine with stand-in chips (stand_in.py): what the farm itself costs.

Chips take a fixed time for each clip and next to no processor time, so that one machine can stand for four.
Five figures, each with its goal:

- share: clips a second of 8 chips on 4 hosts, over 8 times those of one chip;
- overhead: a check on a farm of one host with one chip, over the same work without a farm;
- first: seconds from the start of a driver to the first batch on a chip, on hosts that have just started;
- lost: one of four hosts is killed halfway: the time from then on, over the ideal time on the other three;
- bookkeeping: 20,000 clips x 7 cells on chips that take no time: memory over that for 2,000 clips, and time.

python -m benchmarks.farm [share overhead first lost bookkeeping]
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import stand_in
from benchmarks.measured import finish
from benchmarks.stand_in import CELL, DEVICE, Scene
from harness.farm import host, orders
from harness.farm.calls import Placement, Step, resource_of
from harness.farm.orders import Order, Shard
from harness.host.child_process import run_in_child
from harness.measure.accuracy import accuracy_measurement
from harness.record.npz import accuracy_files
from harness.record.record import RunDirectory
from harness.spec import Status

HOSTS, CHIPS = 4, 2
# A chip of 25 clips a second; its shard of 256 clips takes ten seconds.
CLIP_S = 0.04
ROUNDS = 4
# Clips of a shard while a host is lost: few, so that the last shard hardly matters.
SMALL = 64
MANY, FEW, CELLS = 20_000, 2_000, 7
BOOKKEEPING_S = 60.0
ORDER = Order(b"", "emulated", CELL, "accuracy", "")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(BENCHMARKS))
    return max([BENCHMARKS[name]() for name in parser.parse_args().names])


def share() -> int:
    speeds = {}
    with farm([CHIPS] * HOSTS) as (suite_of, _, _):
        suite = suite_of(Scene(0, CLIP_S))
        nodes = sorted(suite.hosts.now())
        time_shards(suite, nodes, CHIPS, shards=16, clips=16 * 8)
        for chips in (1, 2, 4, 8):
            shards = ROUNDS * chips
            used, held = nodes[: max(1, chips // CHIPS)], CHIPS if chips == 1 else 1
            seconds = time_shards(suite, used, held, shards, 256 * shards)
            speeds[chips] = 256 * shards / seconds
            print(f"  {chips} chips: {speeds[chips]:.1f} clips/s", flush=True)
    return finish("share of linear", speeds[8] / (8 * speeds[1]), 0.93, at_least=True)


def time_shards(suite: Any, nodes: list[str], held: int, shards: int, clips: int) -> float:
    """Run shards on the chips of some hosts, each call holding ``held`` of them; return the seconds."""
    at = Placement(tuple(nodes), {resource_of(DEVICE): float(held)})
    with stand_in.stand_ins(Scene(clips, CLIP_S)):
        calls = [(ORDER, (), Shard("predictions", number, shards)) for number in range(shards)]
        start_s = time.perf_counter()
        suite.cluster.run(Step(host.predict, calls, at, "shards"))
        return time.perf_counter() - start_s


def overhead() -> int:
    clips = 256 * ROUNDS * 2
    with farm([1]) as (suite_of, folder, _):
        check(suite_of(Scene(256, 0.0)))
        farm_s = check(suite_of(Scene(clips, CLIP_S)))
        with mock.patch.dict("os.environ", stand_in.node_arguments("alone", 1, folder)["env_vars"]):
            alone_s = time_alone(Scene(clips, CLIP_S), stand_in.new_run(folder, ""))
    note = (
        f"{clips} clips on one chip: {farm_s:.1f} s on a farm of one host, {alone_s:.1f} s without"
    )
    return finish("overhead", farm_s / alone_s, 1.05, at_least=False, note=note)


def time_alone(scene: Scene, run: RunDirectory) -> float:
    start_s = time.perf_counter()
    work, clip_set = (scene, lambda line: None, ORDER), stand_in.clip_set_of(scene.clips)
    preds = stand_in.predict(*work, (), Shard("predictions", 0, 1)).unpacked()
    reference = stand_in.refer(*work, Shard("reference", 0, 1)).unpacked()
    accuracy_measurement(preds, clip_set, reference)
    for content, suffix in accuracy_files(preds, reference, clip_set).values():
        run.keep(content, suffix)
    return time.perf_counter() - start_s


def first() -> int:
    with farm([CHIPS] * HOSTS) as (_, folder, nodes):
        marks = folder / "marks"
        marks.mkdir()
        start_s = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.farm", "--drive", nodes[0], str(folder)]
        driver = subprocess.Popen(command)
        while not batches(marks):
            time.sleep(0.05)
        took_s = time.perf_counter() - start_s
        driver.kill()
        driver.wait()
    return finish("start to first clip", took_s, 20.0, at_least=False)


def lost() -> int:
    chips, clips = HOSTS * CHIPS, SMALL * HOSTS * CHIPS * 24
    fell = []
    with farm([CHIPS] * HOSTS, SMALL) as (suite_of, folder, nodes):
        made, hosts = nodes[1]
        check(suite_of(Scene(SMALL * chips * 2, 0.0)))
        marks = folder / "marks"
        marks.mkdir()

        def kill() -> None:
            while (done := batches(marks) * CELL.batch) < clips / 2:
                time.sleep(0.1)
            fell.append((time.perf_counter(), done))
            made.remove_node(hosts[-1], allow_graceful=False)

        suite = suite_of(Scene(clips, CLIP_S, {}, marks))
        threading.Thread(target=kill, daemon=True).start()
        record = suite.check(CELL, "accuracy")
        ended_s = time.perf_counter()
        same = stand_in.digest(stand_in.expected(stand_in.clip_set_of(clips)))
        assert stand_in.predictions_of(suite, record) == same
    (fell_s, done), *_ = fell
    took_s = ended_s - fell_s
    # Clips of shards that the lost host had begun count as done: they are what the loss costs.
    ideal_s = (clips - done) * CLIP_S / (chips - CHIPS)
    note = f"{clips} clips, the same predictions; {took_s:.1f} s after the host was killed, ideally {ideal_s:.1f} s"
    return finish("lost host", took_s / ideal_s, 1.15, at_least=False, note=note)


def batches(marks: Path) -> int:
    """Return how many batches chips have run."""
    log = marks / "log"
    return log.read_text().count("batch") if log.exists() else 0


def bookkeeping() -> int:
    peaks, seconds = {}, {}
    with farm([CHIPS] * HOSTS) as (suite_of, folder, nodes):
        check(suite_of(Scene(256 * 8, 0.0)))
        for clips in (FEW, MANY):
            seconds[clips], cost = run_in_child(
                drive_cells, stand_in.client_address(nodes[1][0].head_node), folder, clips
            )
            peaks[clips] = cost.peak_bytes
            print(f"  {clips} clips x {CELLS} cells: {seconds[clips]:.1f} s", flush=True)
            print(f"  the driver's peak: {peaks[clips] / 1e6:.0f} MB", flush=True)
    status = finish("bookkeeping, time", seconds[MANY], BOOKKEEPING_S, at_least=False)
    growth = peaks[MANY] / peaks[FEW]
    return max(status, finish("bookkeeping, memory", growth, 1.2, at_least=False))


def drive_cells(address: str, folder: Path, clips: int) -> float:
    """Check the accuracy of a cell as many times as a model has batch sizes; return the seconds."""
    start_s = time.perf_counter()
    with stand_in.stand_ins(Scene(clips, 0.0)):
        suite = stand_in.farm_suite(address, folder, lambda line: None)
        for _ in range(CELLS):
            check(suite)
    return time.perf_counter() - start_s


def check(suite: Any) -> float:
    start_s = time.perf_counter()
    record = suite.check(CELL, "accuracy")
    assert record.verdict.status is not Status.ERROR, record.verdict.reason
    return time.perf_counter() - start_s


@contextlib.contextmanager
def farm(chips: list[int], shard: int = 256) -> Iterator[tuple[Callable[[Scene], Any], Path, Any]]:
    """Start hosts; yield a function that makes a run of a scene on them, a folder, and Ray's nodes."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        made, hosts = stack.enter_context(stand_in.nodes(chips, folder))
        stack.enter_context(mock.patch.object(orders, "SHARD_CLIPS", shard))

        def suite_of(scene: Scene) -> Any:
            stack.enter_context(stand_in.stand_ins(scene))
            return stand_in.farm_suite(made.address, folder, lambda line: None)

        yield suite_of, folder, (made.address, (made, hosts))


BENCHMARKS = {
    "share": share,
    "overhead": overhead,
    "first": first,
    "lost": lost,
    "bookkeeping": bookkeeping,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        marks = Path(sys.argv[3], "marks")
        with stand_in.stand_ins(Scene(256 * 64, CLIP_S, {}, marks)):
            check(stand_in.farm_suite(sys.argv[2], Path(sys.argv[3])))
    sys.exit(main())
