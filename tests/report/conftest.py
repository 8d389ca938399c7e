"""Runs made of synthetic measurements, each judged by the harness's own judges."""

import dataclasses
import datetime
import functools
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.contract.tables import Waiver
from harness.contract.thresholds import thresholds_from_file
from harness.errors import BuildError, DeviceAbsent, InvalidMeasurement
from harness.judge.measurement import judge_measurement
from harness.judge.verdict import Verdict
from harness.measure.accuracy import (
    AccuracyMeasurement,
    ClassFlip,
    ClipCount,
    Join,
    PairedComparison,
)
from harness.measure.every_clip import ClipDistance, EveryClip
from harness.measure.export import ExportMeasurement, MultiplyAdds
from harness.measure.host_turns import Turns
from harness.measure.parity import ChainScores, InputCounts, parity_measurement
from harness.measure.passport import Passport
from harness.measure.statistics import (
    mcnemar_midp,
    minimum_detectable_loss,
    tango_bounds,
    wilson_interval,
)
from harness.measure.strips import Strip, Strips
from harness.measure.throughput import session_timing, throughput_measurement
from harness.nightly.series import Point, Series, SeriesKey
from harness.nightly.trend import trend_of
from harness.record.record import Record, RunDirectory, RunFacts
from harness.report.evidence import evidence_from_records
from harness.report.merge import merged_runs
from harness.report.page import markdown_from_release, page_from_release
from harness.report.pdf import browser_arguments
from harness.report.release import release_from_merged
from harness.spec import CHECKS, Cell, Status
from tests.made import MOTION8_DIGEST

ROOT = Path(__file__).parents[2]
TODAY = datetime.date(2026, 11, 25)
COMMIT = "8803df0ab19c00306c90fca8483b4a5c1e080195"
ASCEND = {"driver": "24.1.rc2", "firmware": "7.3.0.1.231", "cann": "8.0.RC2"}
FACTS = {
    "ascend310": {"chip": "310", "soc_version": "Ascend310", **ASCEND},
    "ascend310p": {"chip": "310P3", "soc_version": "Ascend310P3", **ASCEND},
    "cuda": {"chip": "Tesla T4", "onnxruntime": "1.32.0", "provider": "CUDAExecutionProvider"},
    "cpu": {"onnxruntime": "1.32.0", "provider": "CPUExecutionProvider"},
}


@pytest.fixture(scope="session")
def thresholds():
    return thresholds_from_file(ROOT / "thresholds.toml")


def export(**changes):
    facts = {"problems": (), "ops_checked": 458, "opset": 11, "op_counts": {"Conv": 53}}
    facts["passport"] = Passport(
        soc_version="Ascend310P3", command="atc --model=x", ai_cpu_operators=("Softmax_3",)
    )
    facts["multiply_adds"] = MultiplyAdds(torch=9 << 30, exported=9 << 30, simplified=9 << 30)
    return ExportMeasurement(
        **(facts | changes), inputs=(), outputs=(), onnx_bytes=127_329_736, simplified_bytes=None
    )


@functools.cache
def parity(inputs=64, noise=1e-6):
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(inputs, 8))
    steps = [exact + noise * rng.normal(size=exact.shape) for _ in range(4)]
    ids = tuple(f"clip {number}" for number in range(inputs))
    return parity_measurement(ChainScores(exact, *steps), ids, InputCounts(clip=inputs))


@functools.cache
def accuracy(limits, classes=400, lost=3, gained=2, drop=0, clip="abseiling/{}", is_whole=True):
    """Return the measurement of a device that is ``drop`` clips below the floor of top-1."""
    n = limits.clip_count if is_whole else limits.clip_count // 100
    golden = max(limits.top1.golden or 0.0, limits.top1.floor + 0.002)
    right = round(n * golden) - drop
    top5 = min(n, round(n * max(limits.top5.golden or 0.0, limits.top5.floor + 0.002)))
    flips = tuple(
        ClassFlip(
            clip_id=clip.format(number),
            label=number % classes,
            reference_class=number % classes if number < lost else (number + 1) % classes,
            device_class=(number + 1) % classes if number < lost else number % classes,
        )
        for number in range(lost + gained)
    )
    nearest = ClipDistance(clip_id=clip.format(0), max_abs_error=1e-4, relative_l2=1e-5)
    confusion = [(label, label, right // classes) for label in range(classes)]
    confusion += [(0, 0, right % classes), (1, 2, n - right)]
    return AccuracyMeasurement(
        clip_set="kinetics400",
        clip_set_digest=MOTION8_DIGEST,
        is_whole=is_whole,
        clip_count=n,
        class_count=classes,
        top1=ClipCount(k=right, n=n, interval=wilson_interval(right, n)),
        top5=ClipCount(k=top5, n=n, interval=wilson_interval(top5, n)),
        join=Join(),
        is_constant=False,
        confusion=tuple(confusion),
        paired=PairedComparison(
            n=n,
            b=lost,
            c=gained,
            p_midp=mcnemar_midp(lost, gained),
            loss=(lost - gained) / n,
            bounds=tango_bounds(lost, gained, n, 0.95),
            detectable_loss=minimum_detectable_loss(n, lost + gained),
            reference_top1=right + lost - gained,
            reference_join=Join(),
            flips=flips,
        ),
        every_clip=EveryClip(
            compared=n, p999_abs_error=1e-5, farthest=(nearest,), largest_error=nearest
        ),
    )


@functools.cache
def timings(reference, batch, factor=1.0, spread=0.01, queries=120):
    """Return sessions whose speed is ``factor`` times the golden of the reference."""
    rng = np.random.default_rng(batch)
    per_s = (10.0 if reference.is_of_host else reference.golden) * factor
    mean_ms = 1000.0 * batch / per_s
    sessions = []
    for number in range(5):
        centre = mean_ms * (1 + spread * (number - 2))
        times = centre * (1 + 0.01 * np.abs(rng.normal(size=queries)))
        times *= centre / times.mean()
        turns = None
        if reference.is_of_host:
            processor = tuple(times.tolist())
            unoptimised = tuple((mean_ms * factor * reference.golden * np.ones(queries)).tolist())
            turns = Turns(processor_ms=processor, unoptimised_processor_ms=unoptimised)
        timing = session_timing(times, times, times * 1.3, turns, is_output_same=True)
        note = f"host: load {len(sessions)}.00 before <b>"
        sessions.append(timing.model_copy(update={"notes": (note,)}))
    return sessions


@dataclasses.dataclass
class RunMaker:
    """Makes run folders, check by check; `plans` says what is to be wrong by id of the check."""

    root: Path
    thresholds: object

    def __call__(self, name, cells, plans=None, **changes):
        run = RunDirectory(self.root / name)
        run.root.mkdir()
        environment = {
            "suite.commit": COMMIT,
            "suite.dirty": "no",
            "contract.dirty": "no",
            "package.torch": "2.13.0",
            "python": "3.11.7",
            "os": "Debian GNU/Linux 12 (bookworm)",
            "cpu.model": "Kunpeng 920",
            "host": f"host-{name}",
            **changes.pop("environment", {}),
        }
        record_changes = changes.pop("record", {})
        facts = RunFacts(
            **{
                "run_id": name,
                "tier": "release",
                "started": "2026-11-25T02:00:00+00:00",
                "command": ("pytest", "acceptance/", "--tier", "release"),
                "thresholds_digest": self.thresholds.digest,
                "environment": environment,
                "environment_after": environment,
                "is_over": True,
                "nonce": "ab" * 16,
            }
            | changes
        )
        run.write_facts(facts)
        checks = [(cell, check) for cell in cells for check in CHECKS]
        plan_of = {check: (plans or {}).get(f"{check[0].id}:{check[1]}", {}) for check in checks}
        lines = [
            run.line(self.record(run, *check, facts.tier, plan, record_changes))
            for check, plan in plan_of.items()
            if plan is not None
        ]
        # In one go: waiting for the disk after each record would take most of the tests' time.
        (run.root / "records.jsonl").write_text("".join(lines), "utf-8")
        return run

    def record(self, run, cell, check, tier, plan, changes):
        limits = self.thresholds.limits(cell)
        known = self.thresholds.file.tiers[tier]
        minima = known.inputs_for(cell), known.timing_for(cell).sessions_min
        raw, measured, stage = {}, None, None
        if "raises" in plan:
            verdict, stage = self.outcome(plan["raises"])
        else:
            measured, raw = self.measurement(run, cell, check, limits, dict(plan))
            verdict = judge_measurement(measured, limits, *minima)
        values = {
            "run_id": run.id,
            "tier": tier,
            "model": cell.model,
            "device": cell.device,
            "batch": cell.batch,
            "check": check,
            "verdict": verdict,
            "stage": stage,
            "measurement": measured,
            "weights": "checkpoint",
            "subjects": {
                "weights": self.thresholds.file.models[cell.model].weights.ljust(64, "a"),
                "inputs": limits.inputs or "",
                "onnx": "b" * 64,
                "thresholds": self.thresholds.digest,
            },
            "raw": raw,
            "device_facts": FACTS.get(cell.device, FACTS["cpu"]),
            "is_device_present": not isinstance(plan.get("raises"), DeviceAbsent),
            "inputs_min": minima[0],
            "sessions_min": minima[1],
            "started": "2026-11-25T02:10:00+00:00",
            "seconds": 12.5,
        }
        return Record(**(values | changes))

    def measurement(self, run, cell, check, limits, plan):
        match check:
            case "export":
                return export(**plan), {}
            case "parity":
                return parity(**plan), {}
            case "accuracy":
                strips = plan.pop("strips", None)
                measured = accuracy(limits.accuracy, **plan)
                if strips is None:
                    return measured, {}
                return measured, {"strips": run.keep(strips.model_dump_json().encode(), ".json")}
            case _:
                sessions = timings(limits.throughput, cell.batch, **plan)
                lines = "\n".join(session.model_dump_json() for session in sessions)
                raw = {"latencies": run.keep(lines.encode(), ".jsonl")}
                return throughput_measurement(sessions, cell.batch), raw

    def outcome(self, error):
        """Return what the suite makes of an error."""
        if isinstance(error, DeviceAbsent):
            return Verdict(status=Status.NOT_RUN, reason=str(error)), None
        if isinstance(error, InvalidMeasurement):
            return Verdict(status=Status.INVALID, reason=str(error)), None
        return Verdict(status=Status.ERROR, reason=f"{error.stage}: {error}"), error.stage


@pytest.fixture(autouse=True, scope="module")
def without_recomputing():
    """Take measurements as recorded; tests/record/ tests recomputing. No other folder's tests may run under it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.report.merge.founded_records", RunDirectory.records)
        yield


@pytest.fixture
def make_run(tmp_path, thresholds):
    return RunMaker(tmp_path, thresholds)


@pytest.fixture(scope="session")
def release_cells(thresholds):
    return thresholds.cells("release")


@pytest.fixture(scope="session")
def required_count(thresholds, release_cells):
    """How many checks the release requires."""
    requires = thresholds.tier("release").requires
    return sum(requires(cell, check) for cell in release_cells for check in CHECKS)


@pytest.fixture(scope="session")
def decide(thresholds):
    """Return the release of some runs, today."""

    def release(*runs, thresholds=thresholds, today=TODAY):
        return release_from_merged(merged_runs(runs), thresholds, today)

    return release


JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwc"
    "KDcpLDAxNDQ0Hyc5PTgyPC4zNDL/wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAACf/EABQQAQAAAAAAAAAA"
    "AAAAAAAAAAD/2gAIAQEAAD8AVN//2Q=="
)


@pytest.fixture(scope="session")
def strips_of():
    """Return what makes strips of flipped clips by name."""
    return _strips_of


def _strips_of(*names, missing=""):
    return Strips(
        flip_count=len(names),
        class_names={"0": "abseiling", "1": "air drumming"},
        strips=tuple(
            Strip(
                clip_id=name,
                label=0,
                reference_class=0,
                device_class=1,
                reference_margin=0.125,
                device_margin=0.004,
                jpeg="" if missing else JPEG,
                missing=missing,
            )
            for name in names
        ),
    )


@pytest.fixture
def every_outcome(release_cells):
    """Plan each outcome for some check, on cells that the release requires."""
    return plans_of_every_outcome(release_cells)


@pytest.fixture(scope="session")
def every_plan():
    return plans_of_every_outcome


def plans_of_every_outcome(cells):
    device = (
        f"{cells[5].device} is not on this machine: no Ascend chip on this host: npu-smi is not on PATH and "
        "there is no /dev/davinci<N>; install the Ascend driver, or put npu-smi on PATH (usually in "
        "/usr/local/bin), or set its path in site.toml"
    )
    return {
        f"{cells[1].id}:throughput": {"factor": 0.95, "spread": 0.05},
        f"{cells[2].id}:accuracy": {"drop": 100},
        f"{cells[3].id}:parity": {"inputs": 8},
        f"{cells[4].id}:export": {"raises": BuildError("atc refused model.onnx: E10016")},
        f"{cells[5].id}:parity": {"raises": DeviceAbsent(device)},
        f"{cells[6].id}:throughput": None,
    }


@pytest.fixture(scope="session")
def run_maker():
    return RunMaker


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium; the tests of the page skip where there is none, and say so."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: `make browser`; the sign-off page is NOT tested")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*browser_arguments()]
        )
        yield chromium
        chromium.close()


HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "'; document.title='owned'; //",
    "{{ 7 * 7 }} {% raw %}",
    "\u202eright to left \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\U0001f980" * 20,
    "long" * 125,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory, thresholds, release_cells, strips_of):
    """Write the report of one run with every outcome, a waiver and hostile names in it."""
    root = tmp_path_factory.mktemp("site")
    name = HOSTILE[0]
    waiver = Waiver(
        cell=release_cells[7].id,
        check="accuracy",
        reason=HOSTILE[1],
        issue=HOSTILE[4],
        owner=name,
        expires=datetime.date(2026, 12, 31),
    )
    file = thresholds.file.model_copy(update={"waivers": (waiver,)})
    plans = plans_of_every_outcome(release_cells) | {
        f"{release_cells[7].id}:accuracy": {"drop": 200, "clip": HOSTILE[6] + "{}"},
        f"{release_cells[8].id}:accuracy": {"strips": strips_of(*HOSTILE)},
        f"{release_cells[9].id}:accuracy": {"strips": strips_of(name, missing=HOSTILE[1])},
        f"{release_cells[10].id}:export": {"raises": BuildError(" ".join(HOSTILE))},
        f"{release_cells[11].id}:accuracy": {"classes": 8},
    }
    make = RunMaker(root, dataclasses.replace(thresholds, file=file))
    run = make("every", release_cells[:12], plans, environment={"host": HOSTILE[1]})
    stranger = Cell(HOSTILE[0], "cpu", 1)
    with (run.root / "records.jsonl").open("a", encoding="utf-8") as lines:
        record = run.records()[0].model_copy(update={"model": stranger.model})
        lines.write(run.line(record))
    trends = tuple(
        trend_of(
            Series(
                SeriesKey("nonlocal_r50", "cpu", 1, "throughput", "device.per_s", host),
                tuple(
                    Point(f"night-{day}", f"2026-11-{day:02}", value, Status.PASS, {})
                    for day, value in enumerate(values, 1)
                ),
            )
        )
        for host, values in (
            ("epyc-2cpu", (1.0, 1.01, 1.0, 1.01, 2.0, 2.01, 2.0, 2.01)),
            (HOSTILE[2], (5.0,)),
        )
    )
    merged = merged_runs([run])
    release = release_from_merged(merged, make.thresholds, TODAY)
    page = page_from_release(release, evidence_from_records(merged.records.values(), [run]), trends)
    (root / "signoff.html").write_text(page, "utf-8")
    (root / "signoff.md").write_text(markdown_from_release(release), "utf-8")
    return root


@pytest.fixture(scope="session")
def hostile():
    return HOSTILE


@pytest.fixture(scope="session")
def today():
    return TODAY
