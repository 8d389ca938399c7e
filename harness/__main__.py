"""The command line: ``harness`` or ``python -m harness``."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import registry
from harness.build.workbench import Workbench
from harness.cli import contract
from harness.cli.dataset import (
    add_commands,
    print_unreadable,
    require_writable,
    write_predictions,
)
from harness.cli.doctor import doctor_lines
from harness.cli.export_results import add_commands as add_channel_commands
from harness.cli.nightly import add_nightly_commands
from harness.cli.report import add_command as add_report
from harness.cli.sign import add_commands as add_signing_commands
from harness.clips import ClipSet
from harness.contract.thresholds import stored_thresholds
from harness.data.datasets import clip_set_from_site
from harness.data.kinetics import clip_set_from_list
from harness.decide.problems import exit_status, left_out
from harness.decide.rejudge import judged_today
from harness.decide.speeds import speed_lines
from harness.decide.summary import decision_lines
from harness.errors import HarnessError, InputError
from harness.host.artifacts import ArtifactStore
from harness.host.progress import Progress
from harness.host.site import FIXTURES, Site, load_site
from harness.measure.scores import best_classes, crop_mean
from harness.predict.chips import chip_predictions
from harness.record.record import RunDirectory
from harness.spec import Cell

THRESHOLDS = FIXTURES.parent / "thresholds.toml"
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done, 1 no, 2 unusable input, 130 Ctrl-C, 141 nobody reads on; ``judge`` and ``gate`` end like
    the run: 6 incomplete and 7 inconclusive.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.function(options)
        sys.stdout.flush()
    except HarnessError as error:
        print(f"harness {options.command}: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"harness {options.command}: stopped; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Who reads has seen enough, as `head` has; nothing is to be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"harness {options.command}: nobody reads its output any more", file=sys.stderr)
        return 141
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="harness",
        description="Decide whether a video model may ship on a device. The checks themselves run "
        "with pytest: pytest -m cpu acceptance/",
    )
    parser.add_argument("--site", type=Path, help="site.toml of this machine")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(function=function)
        return added

    command("doctor", _doctor, "say what this machine can run, and why not the rest")
    command("models", _models, "list the models with their inputs, outputs and weights")
    for name, function, text in (
        ("export", _export, "export a model to ONNX and simplify it"),
        ("build", _build, "build the device model of a cell, with all that comes before it"),
        ("run", _run, "run a cell on clips and keep its predictions"),
    ):
        added = command(name, function, text)
        added.add_argument("model", help="name, as `harness models` lists it")
        added.add_argument("--batch-size", type=_positive, default=1, metavar="N")
        added.add_argument("--device", default="cpu", help=registry.device_help())
        if name == "run":
            added.add_argument("--clips", type=Path, metavar="LIST", help="lines of: path label")
            added.add_argument("--output", type=Path, metavar="FILE", help="predictions as .npz")
    judge = command("judge", _judge, "judge a stored run again, without running anything")
    judge.add_argument("run", type=Path, help="folder of the run")
    judge.add_argument("--thresholds", type=Path, default=THRESHOLDS, metavar="FILE")
    cache = command("cache", _cache, "list or prune the artifact store")
    cache.add_argument("action", choices=("list", "prune"))
    cache.add_argument("--older-than-days", type=_not_negative, metavar="N")
    cache.add_argument(
        "--max-gb", type=_not_negative, metavar="N", help="remove until no more is left"
    )
    cache.add_argument("--kind", action="append", metavar="KIND", help="only this kind; repeatable")
    cache.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    add_commands(commands)
    add_channel_commands(commands)
    add_signing_commands(commands)
    add_report(commands, THRESHOLDS)
    contract.add_commands(commands)
    add_nightly_commands(commands)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    lines, is_ready = doctor_lines(_site(options))
    print("\n".join(lines))
    return 0 if is_ready else 1


def _models(options: argparse.Namespace) -> int:
    bench = _bench(options)
    for name in registry.model_names():
        spec = registry.model_spec(name)
        weights = bench.weights(name)
        where = weights.path or f"seeded; {spec.checkpoint} is not on this machine"
        print(f"{name}\n  input   {spec.input.name} {list(spec.input.shape)} {spec.input.dtype}")
        print(f"  output  {spec.output.name} {list(spec.output.shape)} {spec.output.dtype}")
        print(f"  config  {spec.config}\n  data    {spec.dataset}\n  weights {where}")
    return 0


def _export(options: argparse.Namespace) -> int:
    bench, cell = _bench(options), _cell(options)
    print(f"exported    {bench.exported(cell).artifact.path}")
    print(f"simplified  {bench.simplified(cell).artifact.path}")
    return 0


def _build(options: argparse.Namespace) -> int:
    bench, cell = _bench(options), _cell(options)
    print(f"built       {bench.device_model(cell).artifact.path}")
    return 0


def _run(options: argparse.Namespace) -> int:
    bench, cell = _bench(options), _cell(options)
    spec, clips = registry.model_spec(cell.model), _clips(options, bench)
    if options.output is not None:
        require_writable(options.output)
    if bench.weights(cell.model).path is None:
        print(
            f"seeded weights, as {spec.checkpoint} is not on this machine: how many are right says "
            "nothing"
        )
    with bench.beside_others():
        preds, _ = chip_predictions(cell, bench, clips, clips)
    labels = {clip.id: clip.label for clip in clips.clips}
    classes = best_classes(crop_mean(preds.scores))
    right = sum(
        int(labels[name] == best) for name, best in zip(preds.clip_ids, classes, strict=True)
    )
    print(f"{cell.id}: {right} of {len(clips.clips)} clips right (top-1)")
    status = print_unreadable(preds)
    if options.output is not None:
        write_predictions(options.output, preds)
    return status


def _judge(options: argparse.Namespace) -> int:
    run = RunDirectory(options.run)
    thresholds = stored_thresholds(options.thresholds)
    if thresholds.digest != run.facts().thresholds_digest:
        print(f"judged by {thresholds.path}, which is not what the run was judged by then")
    facts, records, decision = judged_today(run, thresholds)
    speeds = speed_lines(records, thresholds.references())
    spared = left_out(records, facts.must_pass)
    lines = decision_lines(records, decision, thresholds.file.waivers, spared)
    print("\n".join([*lines, *speeds]))
    return exit_status(decision.problems)


def _cache(options: argparse.Namespace) -> int:
    store = ArtifactStore(_site(options).cache_dir)
    if options.action == "prune":
        limit = None if options.max_gb is None else int(options.max_gb * 1e9)
        entries = store.prune(options.older_than_days, limit, options.kind, options.dry_run)
    else:
        kinds = options.kind
        entries = [entry for entry in store.entries() if kinds is None or entry.kind in kinds]
    for entry in entries:
        size = f"{entry.bytes / 1e6:.1f} MB"
        print(f"{entry.kind:<18}{size:>12}  {entry.last_used:%Y-%m-%d %H:%M}  {entry.path}")
    total = sum(entry.bytes for entry in entries) / 1e6
    verb = {"list": "", "prune": "would remove " if options.dry_run else "removed "}[options.action]
    print(f"{verb}{len(entries)} artifacts, {total:.1f} MB")
    return 0


def _site(options: argparse.Namespace) -> Site:
    return load_site(options.site, os.environ)


def _bench(options: argparse.Namespace) -> Workbench:
    log_dir = Path(tempfile.mkdtemp(prefix="harness-logs-"))
    return Workbench(_site(options), log_dir, Progress(sys.stderr))


def _cell(options: argparse.Namespace) -> Cell:
    spec = registry.model_spec(options.model)
    registry.device_spec(options.device)
    if spec.frozen_batch not in (None, options.batch_size):
        raise InputError(
            f"{spec.name} supports bs{spec.frozen_batch} only, not bs{options.batch_size}"
        )
    return Cell(options.model, options.device, options.batch_size)


def _clips(options: argparse.Namespace, bench: Workbench) -> ClipSet:
    spec = registry.model_spec(options.model)
    if options.clips is None:
        return clip_set_from_site(spec.dataset, bench.site)
    names = [str(number) for number in range(spec.class_count)]
    return clip_set_from_list(options.clips, names, name=options.clips.stem)


def _not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    # Beyond a million days or gigabytes nothing is kept.
    if not 0.0 <= number <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no limit; give a number from 0 to 1000000")
    return number


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no batch size; give a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
