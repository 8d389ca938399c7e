"""What changed between a good and a bad run, and which change it was, as far as this machine can say.

The recorded inputs of one check are compared in the order in which they act. What the artifact
store still has of the good run, found by digest, is put in place of what the bad run used, one
stage at a time, and the check is run again. Versions of packages, drivers and firmware cannot be
swapped inside one installation; they are named.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.build.build import simplified_from_onnx
from harness.build.workbench import Workbench
from harness.errors import HarnessError, RecordError
from harness.host.artifacts import ArtifactStore
from harness.host.progress import Progress
from harness.host.provenance import PROVENANCE, sha256_from_file
from harness.host.reading import bytes_from_file, json_from_text
from harness.host.site import Site
from harness.judge.verdict import Verdict
from harness.measure.measurement import Measurement
from harness.nightly.series import facts_of, values_from_measurement
from harness.record.record import Record, RunDirectory
from harness.spec import Artifact, Cell, Check, DeviceModel, OnnxModel, Status

# The stages in the order in which they act, each with what is recorded of it.
STAGES: Mapping[str, tuple[str, ...]] = {
    "weights": ("digest.weights",),
    "exporter": ("digest.onnx", "package.torch", "package.mmaction2", "package.mmcv-full"),
    "simplifier": ("digest.simplified", "package.onnxsim", "package.onnx"),
    "toolchain": ("digest.device_model", "device.cann", "device.soc_version"),
    "runtime": ("device.driver", "device.firmware", "device.onnxruntime", "package.onnxruntime"),
    "clips": ("digest.clips", "package.decord", "package.av", "package.opencv"),
    "suite": ("suite.commit", "digest.thresholds"),
}
# What can be swapped: the kind of artifact in the store.
SWAPPED: Mapping[str, tuple[str, str]] = {
    "exporter": ("onnx", "onnx"),
    "simplifier": ("simplified", "simplified"),
    "toolchain": ("device_model", "device"),
}

RunCheck = Callable[[Workbench, Cell, Check], tuple[Measurement, Verdict]]


@dataclasses.dataclass(frozen=True)
class Difference:
    """One recorded input that is not the same in both runs."""

    stage: str
    name: str
    good: str
    bad: str


@dataclasses.dataclass(frozen=True)
class Trial:
    """The check, run again with one stage of the good run; ``problem`` is why it was not."""

    stage: str
    status: Status | None
    values: Mapping[str, float]
    problem: str = ""


def common_record(run: RunDirectory, name: str) -> Record:
    """Return the record of a check.

    Raises:
        RecordError: the run cannot be read or has no such check.
    """
    for record in run.records():
        if record.id == name:
            return record
    raise RecordError(f"{run.root} has no check {name}")


def broken_checks(good: RunDirectory, bad: RunDirectory) -> list[str]:
    """Return the checks that passed in the good run and do not in the bad one."""
    passed = {one.id for one in good.records() if one.verdict.status is Status.PASS}
    records = bad.records()
    return [one.id for one in records if one.id in passed and one.verdict.status != Status.PASS]


def differences(good: RunDirectory, bad: RunDirectory, name: str) -> list[Difference]:
    """Return the recorded inputs of a check that differ, in the order in which they act."""
    before, after = (
        facts_of(common_record(run, name), run.facts().environment) for run in (good, bad)
    )
    stages = {fact: stage for stage, facts in STAGES.items() for fact in facts}
    order = {fact: place for place, fact in enumerate(stages)}
    names = [fact for fact in {**before, **after} if before.get(fact) != after.get(fact)]
    return [
        Difference(
            stages.get(fact, "machine"), fact, before.get(fact, "absent"), after.get(fact, "absent")
        )
        for fact in sorted(names, key=lambda fact: (order.get(fact, len(order)), fact))
    ]


def trials(
    good: Record, found: Sequence[Difference], site: Site, run_check: RunCheck
) -> Iterator[Trial]:
    """Run the check with what is installed now, then with each changed stage of the good run."""
    yield _trial("as installed now", good, Workbench(site, _logs(site), Progress()), run_check)
    changed = {difference.name for difference in found}
    for stage, (subject, kind) in SWAPPED.items():
        if f"digest.{subject}" not in changed:
            continue
        digest = good.subjects.get(subject)
        artifact = None if digest is None else find_artifact(site, kind, digest)
        if artifact is None:
            problem = f"the good run's {subject} is not in {site.cache_dir}: it cannot be swapped"
            yield Trial(stage, None, {}, problem)
        else:
            yield _trial(stage, good, SwappedBench(site, stage, artifact), run_check)


def find_artifact(site: Site, kind: str, digest: str) -> Artifact | None:
    """Return the artifact of a kind that has this sha256, unchanged; None if the store has none."""
    for entry in ArtifactStore(site.cache_dir, site.trust_cache).entries():
        if entry.kind != kind:
            continue
        try:
            provenance = json_from_text(bytes_from_file(entry.path / PROVENANCE))
            payload = entry.path / str(provenance["filename"])
            if provenance["sha256"] == digest == sha256_from_file(payload):
                return Artifact(kind, payload, digest, provenance)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


class SwappedBench(Workbench):
    """A workbench in which one stage is that of another run; what follows it is built anew."""

    def __init__(self, site: Site, stage: str, artifact: Artifact) -> None:
        super().__init__(site, _logs(site), Progress())
        self._stage, self._artifact = stage, artifact

    def exported(self, cell: Cell) -> OnnxModel:
        """Return the exported model, of the other run if that is swapped."""
        return self._onnx(cell) if self._stage == "exporter" else super().exported(cell)

    def simplified(self, cell: Cell) -> OnnxModel:
        """Return the simplified model, of the other run if that is swapped."""
        if self._stage == "simplifier":
            return self._onnx(cell)
        return simplified_from_onnx(self.exported(cell), self.workshop)

    def device_model(self, cell: Cell) -> DeviceModel:
        """Return the device model, of the other run if that is swapped."""
        if self._stage != "toolchain":
            return super().device_model(cell)
        return DeviceModel(self.simplified(cell), cell.device, self._artifact)

    def _onnx(self, cell: Cell) -> OnnxModel:
        kind = self.weights(cell.model).kind
        return OnnxModel(self.spec(cell), cell.batch, kind, self._artifact)


def _trial(stage: str, good: Record, bench: Workbench, run_check: RunCheck) -> Trial:
    try:
        measurement, verdict = run_check(bench, good.cell, good.check)
    except HarnessError as error:
        return Trial(stage, None, {}, f"{type(error).__name__}: {error}")
    return Trial(stage, verdict.status, _values(measurement))


def _logs(site: Site) -> Path:
    return site.run_root / "bisect-logs"


def difference_lines(found: Sequence[Difference]) -> list[str]:
    """Return a line a difference; what cannot be swapped here is named."""
    swappable = {f"digest.{subject}" for subject, _ in SWAPPED.values()}
    lines = [
        f"{one.stage:<11} {one.name:<22} {one.good[:24]} -> {one.bad[:24]}"
        + ("" if one.name in swappable else "  (cannot be swapped in one installation)")
        for one in found
    ]
    return lines or ["nothing that is recorded differs: look at the machine and its load"]


def trial_lines(good: Record, bad: Record, tried: Sequence[Trial]) -> list[str]:
    """Return a row a trial beside both runs, and which swap brings the pass back."""
    rows = [
        Trial(name, record.verdict.status, _values(record.measurement))
        for name, record in (("good run", good), ("bad run", bad))
    ]
    lines = []
    for one in [*rows, *tried]:
        values = ", ".join(f"{name} {value:.4g}" for name, value in one.values.items())
        lines.append(f"{one.stage:<18} {one.status or 'not run'}  {values or one.problem}")
    now, *swaps = tried
    healed = [one.stage for one in swaps if one.status is Status.PASS]
    if now.status is Status.PASS:
        lines.append("it passes as installed now: the cause is not here, or it was the machine")
    elif healed:
        lines.append(f"the pass comes back with the good run's {healed[0]}: look there first")
    else:
        lines.append("no swap brings the pass back: look at what cannot be swapped")
    return lines


def _values(measurement: Measurement | None) -> dict[str, float]:
    return {value.metric: value.value for value in values_from_measurement(measurement)}
