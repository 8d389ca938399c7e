"""How much of mmaction2's model zoo this suite takes: every RGB configuration, at small size.

    python -m benchmarks.zoo --results zoo.jsonl            # all; hours on two cores, resumes
    python -m benchmarks.zoo --results zoo.jsonl --sample   # one of each family of any frame size

Each configuration goes through what ``harness model check`` does, with calibrated weights: exported
at opset 11 with one view, simplified, run in ONNX Runtime, and judged against PyTorch in float32 and
float64 by the contract's limits of parity. Its whole protocol is compared with mmaction2's own
pipeline. The exit status is 1 if a configuration that ran does not pass. A line of ``--results`` is
one configuration; delete it, or the file, to run it again.
"""

import argparse
import collections
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
from harness.build.build import WeightsFile, Workshop
from harness.check.mmaction2_pipeline import protocol_problems, shrunk
from harness.check.model_check import look_at_model
from harness.contract.thresholds import thresholds_from_file
from harness.errors import HarnessError, first_line
from harness.host.artifacts import ArtifactStore
from harness.host.progress import Progress
from harness.judge.limits import ParityLimits
from harness.zoo.config import config_from_file, config_path
from harness.zoo.listing import Listed, zoo_list
from harness.zoo.model import model_spec_from_config, with_protocol
from harness.zoo.protocol import protocol_from_config

CONTRACT = Path(harness.__file__).parent.parent / "thresholds.toml"
GOAL = 0.97
SIZE, FRAME, FACTOR = 32, (43, 32), 8
SEEDED = WeightsFile("seeded", "seed")
# Their last layers fit one size of frames.
FIXED_SIZE = ("c3d", "timesformer")
# What is no classifier of RGB clips, by the reason that the list gives.
OTHERS = ("takes Flow input", "describes a AudioRecognizer", "has no classification head")

Result = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what has no result yet, and print the table of all that have one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument(
        "--sample", action="store_true", help="the first of each family of any size"
    )
    options = parser.parse_args(arguments)
    listed = rgb_classifiers()
    wanted = sampled(listed) if options.sample else listed
    done = results_from(options.results)
    # The same for every model, in float32.
    limits = thresholds_from_file(CONTRACT).file.models["nonlocal_tiny"].parity["fp32"]
    for one in wanted:
        if one.config not in done:
            result = tried(one, limits)
            done[one.config] = result
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(
                f"{result['seconds']:6.1f} s  {one.config}  {result['reason'] or 'pass'}",
                flush=True,
            )
    found = [done[one.config] for one in wanted]
    print_table(found)
    return 0 if all(result["passed"] or result["refused"] for result in found) else 1


def rgb_classifiers() -> list[Listed]:
    """Return the configurations that count: RGB, with a head, not nested in folders of a family."""
    return [one for one in zoo_list(is_nested=False) if not one.reason.startswith(OTHERS)]


def sampled(listed: Iterable[Listed]) -> list[Listed]:
    """Return the first configuration of each family that takes frames of any size."""
    first: dict[str, Listed] = {}
    for one in listed:
        if one.family not in FIXED_SIZE:
            first.setdefault(one.family, one)
    return list(first.values())


def tried(one: Listed, limits: ParityLimits) -> Result:
    """Return whether a configuration passes, or where it stops."""
    start_s = time.monotonic()
    reason = one.reason
    if one.spec is not None:
        try:
            reason = problem_of(one.config, limits)
        # mmaction2 and the exporter can fail in any way; the next configuration shall still run.
        except Exception as error:  # noqa: BLE001
            told = str(error) if isinstance(error, HarnessError) else first_line(error)
            reason = f"{type(error).__name__}: {told}"
    return {
        "config": one.config,
        "family": one.family,
        "passed": not reason,
        "refused": one.spec is None,
        "reason": reason,
        "seconds": round(time.monotonic() - start_s, 1),
    }


def problem_of(config: str, limits: ParityLimits) -> str:
    """Return the first thing that is not as it should be; empty if there is none."""
    read = shrunk(config_from_file(config_path(config)), FACTOR)
    problems = protocol_problems(read, protocol_from_config(read), (FRAME,))
    if problems:
        return problems[0]
    spec = model_spec_from_config(config, "none", calibrated=True)
    if config.split("/")[1] not in FIXED_SIZE:
        spec = with_protocol(spec, crop_size=SIZE, short_side=SIZE)
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


def results_from(path: Path) -> dict[str, Result]:
    """Return the results of earlier runs by configuration."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {result["config"]: result for result in map(json.loads, lines)}


def print_table(found: Sequence[Result]) -> None:
    """Print how many of each family pass, what does not, and the share of all."""
    families = collections.Counter(result["family"] for result in found)
    passed = collections.Counter(result["family"] for result in found if result["passed"])
    print("\nfamily        pass  of")
    for family, count in families.items():
        print(f"{family:<12}{passed[family]:>6}{count:>4}")
    for result in found:
        if not result["passed"]:
            print(f"not passed: {result['config']}: {result['reason']}")
    print(f"zoo: {passed.total() / len(found):.3f} of {len(found)} (goal >= {GOAL})")


if __name__ == "__main__":
    sys.exit(main())
