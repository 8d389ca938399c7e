"""How much of mmaction2's model zoo this suite takes: every RGB configuration, at small size.

    python -m benchmarks.zoo --results zoo.jsonl            # all, in less than an hour; resumes
    python -m benchmarks.zoo --results zoo.jsonl --sample   # one of each of twelve families

Each configuration goes through what ``harness model check`` does, with calibrated weights: exported
at opset 11 with one view, simplified, run in ONNX Runtime, and judged against PyTorch in float32 and
float64 by the contract's limits of parity. Configurations that differ only in how they train or in
their views share a model, which is judged once. Each one's whole protocol is compared with
mmaction2's own pipeline. The exit status is 1 if a configuration that ran does not pass, or if too
few do. A line of ``--results`` is one configuration; delete it, or the file, to run it again.
"""

import argparse
import collections
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
from benchmarks.parts import keep_result, kept_results
from harness.build.build import WeightsFile, Workshop
from harness.check.mmaction2_pipeline import protocol_problems
from harness.check.model_check import ONE_VIEW, look_at_model
from harness.contract.thresholds import thresholds_from_file
from harness.errors import HarnessError, first_line
from harness.host.artifacts import ArtifactStore
from harness.host.digests import digest_from_json
from harness.host.progress import Progress
from harness.spec import ModelSpec
from harness.zoo.config import Config, config_from_file, config_path, merge
from harness.zoo.listing import Listed, zoo_list
from harness.zoo.model import model_spec_from_config, with_protocol
from harness.zoo.protocol import protocol_from_config

CONTRACT = Path(harness.__file__).parent.parent / "thresholds.toml"
GOAL = 0.97
SIZE, FRAME, FACTOR = 32, (43, 32), 8
SEEDED = WeightsFile("seeded", "seed")
# The last layers of C3D fit one frame size only; TimeSformer's table of positions fits the size that it is given.
FIXED_SIZE = "c3d"
OVERRIDES = {"timesformer": {"backbone": {"img_size": SIZE}}}
# C3D is slow, since its size is fixed; TimeSformer has acceptance runs of its own.
NOT_SAMPLED = ("c3d", "timesformer")
# Not classifiers of RGB clips, by the reason that the list gives.
OTHERS = ("takes Flow input", "builds AudioRecognizer", "has no classification head")

Result = Mapping[str, Any]


def shrunk(config: Config, factor: int) -> Config:
    """Return a configuration whose pipeline works at a fraction of the size, for quick tests."""
    test = config.part("data", "test")
    pipeline = [_shrunk_step(step, factor) for step in test["pipeline"]]
    data = {**config.part("data"), "test": {**test, "pipeline": pipeline}}
    return dataclasses.replace(config, content={**config.content, "data": data})


def _shrunk_step(step: Mapping[str, Any], factor: int) -> Mapping[str, Any]:
    sizes = {key: step[key] for key in ("scale", "crop_size") if key in step}
    return {**step, **{key: _divided(size, factor) for key, size in sizes.items()}}


def _divided(size: Any, factor: int) -> Any:
    if isinstance(size, int):
        return max(1, size // factor)
    return tuple(one if one < 0 else max(1, one // factor) for one in size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what has no result yet, and print the table of all that have one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument(
        "--sample", action="store_true", help="the first of each of twelve families"
    )
    options = parser.parse_args(arguments)
    listed = rgb_classifiers()
    wanted = sampled(listed) if options.sample else listed
    done: dict[str, Result] = {one["config"]: one for one in kept_results(options.results)}
    sweep = Sweep({one["model"]: one["reason"] for one in done.values() if one["model"]})
    for one in wanted:
        if one.config not in done:
            result = sweep.tried(one)
            done[one.config] = result
            keep_result(result, options.results)
            print(
                f"{result['seconds']:6.1f} s  {one.config}  {result['reason'] or 'pass'}",
                flush=True,
            )
    found = [done[one.config] for one in wanted]
    share = print_table(found)
    is_good = all(result["passed"] or result["refused"] for result in found)
    return 0 if is_good and share >= GOAL else 1


def rgb_classifiers() -> list[Listed]:
    """Return the configurations that count: RGB, with a head, directly in a family's folder."""
    return [one for one in zoo_list(is_nested=False) if not one.reason.startswith(OTHERS)]


def sampled(listed: Iterable[Listed]) -> list[Listed]:
    """Return the first configuration of each family, except two."""
    first: dict[str, Listed] = {}
    for one in listed:
        if one.family not in NOT_SAMPLED:
            first.setdefault(one.family, one)
    return list(first.values())


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Tries configurations; ``judged`` has what was wrong with the models so far, by digest."""

    judged: dict[str, str]

    def tried(self, one: Listed) -> Result:
        """Return whether a configuration passes, or where it stops."""
        start_s, reason, model = time.monotonic(), one.reason, ""
        if one.spec is not None:
            try:
                reason = protocol_problem(one.config)
                if not reason:
                    spec = small_spec(one)
                    model = model_digest(spec)
                    reason = self._model_problem(spec, model)
            # mmaction2 and the exporter can fail in any way; the next one must still run.
            except Exception as error:  # noqa: BLE001
                told = str(error) if isinstance(error, HarnessError) else first_line(error)
                reason = f"{type(error).__name__}: {told}"
        return {
            "config": one.config,
            "family": one.family,
            "passed": not reason,
            "refused": one.spec is None,
            "reason": reason,
            "model": model,
            "seconds": round(time.monotonic() - start_s, 1),
        }

    def _model_problem(self, spec: ModelSpec, model: str) -> str:
        if model not in self.judged:
            self.judged[model] = model_problem(spec)
        return self.judged[model]


def protocol_problem(config: str) -> str:
    """Return where a configuration's protocol, at small size, differs from mmaction2's pipeline."""
    read = shrunk(config_from_file(config_path(config)), FACTOR)
    return "; ".join(protocol_problems(read, protocol_from_config(read), (FRAME,)))


def small_spec(one: Listed) -> ModelSpec:
    """Return the model of a configuration with one view of small frames."""
    overrides = OVERRIDES.get(one.family)
    spec = model_spec_from_config(one.config, "none", overrides=overrides, calibrated=True)
    size = {} if one.family == FIXED_SIZE else {"crop_size": SIZE, "short_side": SIZE}
    return with_protocol(spec, **ONE_VIEW, **size)


def model_digest(spec: ModelSpec) -> str:
    """Return the digest of what shapes a model: its configuration, without training, and its tensors."""
    whole = merge(config_from_file(config_path(spec.config)).part("model"), spec.overrides)
    tested = {key: value for key, value in whole.items() if key != "train_cfg"}
    return digest_from_json([tested, spec.inputs, spec.output])


def model_problem(spec: ModelSpec) -> str:
    """Return the first thing that ``harness model check`` finds wrong with a model; empty if none."""
    # The same for every model, in float32.
    limits = thresholds_from_file(CONTRACT).file.models["nonlocal_tiny"].parity["fp32"]
    with tempfile.TemporaryDirectory() as folder:
        workshop = InProcess(ArtifactStore(Path(folder)), Path(folder), Progress())
        for looked in look_at_model(spec, SEEDED, limits, workshop):
            if not looked.is_good:
                return f"{looked.what}: {looked.seen}"
    return ""


class InProcess(Workshop):
    """A workshop whose stages run in this process, which has imported PyTorch once."""

    def run(self, title: str, failure: Any, function: Any, *args: Any, **_: Any) -> dict[str, Any]:
        """Run a stage and return its facts."""
        return dict(function(*args))


def print_table(found: Sequence[Result]) -> float:
    """Print how many of each family pass, what does not, and the share of all; return the share."""
    families = collections.Counter(result["family"] for result in found)
    passed = collections.Counter(result["family"] for result in found if result["passed"])
    print("\nfamily        pass  of")
    for family, count in families.items():
        print(f"{family:<12}{passed[family]:>6}{count:>4}")
    for result in found:
        if not result["passed"]:
            print(f"not passed: {result['config']}: {result['reason']}")
    models = len({result["model"] for result in found if result["model"]})
    share = passed.total() / len(found)
    print(f"{models} models that differ")
    print(f"zoo: {share:.3f} of {len(found)} (goal >= {GOAL})")
    return share


if __name__ == "__main__":
    sys.exit(main())
