"""The commands of models: ``doctor``, ``models``, ``export``, ``build``, ``run`` and ``cache``."""

import argparse
from pathlib import Path
from typing import Any

from harness import registry
from harness.build.workbench import Workbench
from harness.cli.arguments import add_cell, add_command, not_negative, site_of, workbench_of
from harness.cli.dataset import print_unreadable, require_writable, write_predictions
from harness.cli.doctor import ascend_lines, doctor_lines
from harness.clips import ClipSet
from harness.data.kinetics import clip_set_from_list
from harness.errors import InputError, MissingInput
from harness.host.artifacts import ArtifactStore
from harness.measure.scores import best_classes, crop_mean
from harness.predict.chips import chip_predictions
from harness.spec import Cell, ModelSpec
from harness.zoo.listing import listed_line, zoo_list


def add_commands(commands: Any) -> None:
    """Add the commands of models to the subcommands of ``harness``."""
    text = "say what this machine can run, and why not the rest"
    doctor = add_command(commands, "doctor", _doctor, text)
    doctor.add_argument(
        "--ascend", action="store_true", help="check all that docs/ascend.md asks of a host"
    )
    added = add_command(
        commands, "models", _models, "list the models with their inputs, outputs and weights"
    )
    text = "list every configuration of mmaction2 instead, and whether this suite supports it"
    added.add_argument("--zoo", action="store_true", help=text)
    for name, function, text in (
        ("export", _export, "export a model to ONNX and simplify it"),
        ("build", _build, "build the device model of a cell, with all that comes before it"),
        ("run", _run, "run a cell on clips and keep its predictions"),
    ):
        added = add_command(commands, name, function, text)
        add_cell(added)
        if name == "run":
            added.add_argument("--clips", type=Path, metavar="LIST", help="lines of: path label")
            added.add_argument("--output", type=Path, metavar="FILE", help="predictions as .npz")
    cache = add_command(commands, "cache", _cache, "list or prune the artifact store")
    cache.add_argument("action", choices=("list", "prune"))
    cache.add_argument("--older-than-days", type=not_negative, metavar="N")
    cache.add_argument(
        "--max-gb", type=not_negative, metavar="N", help="remove until no more is left"
    )
    cache.add_argument("--kind", action="append", metavar="KIND", help="only this kind; repeatable")
    cache.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _doctor(options: argparse.Namespace) -> int:
    site = site_of(options)
    lines, is_ready = ascend_lines(site) if options.ascend else doctor_lines(site)
    print("\n".join(lines))
    return 0 if is_ready else 1


def _models(options: argparse.Namespace) -> int:
    if options.zoo:
        print(*map(listed_line, zoo_list()), sep="\n")
        return 0
    bench = workbench_of(options)
    for name in registry.model_names():
        spec = registry.model_spec(name)
        print(name)
        for one in spec.inputs:
            print(f"  input   {one.name} {list(one.shape)} {one.dtype}")
        print(f"  output  {spec.output.name} {list(spec.output.shape)} {spec.output.dtype}")
        print(f"  config  {spec.config or 'none'}\n  data    {spec.dataset}")
        print(f"  weights {_where_weights_are(spec, bench)}")
    return 0


def _where_weights_are(spec: ModelSpec, bench: Workbench) -> str:
    try:
        path = bench.weights(spec.name).path
    except MissingInput as error:
        return str(error)
    return str(path or f"seeded; {spec.checkpoint} is not on this machine")


def _export(options: argparse.Namespace) -> int:
    bench, cell = workbench_of(options), _cell(options)
    print(f"exported    {bench.exported(cell).artifact.path}")
    print(f"simplified  {bench.simplified(cell).artifact.path}")
    return 0


def _build(options: argparse.Namespace) -> int:
    bench, cell = workbench_of(options), _cell(options)
    print(f"built       {bench.device_model(cell).artifact.path}")
    return 0


def _run(options: argparse.Namespace) -> int:
    bench, cell = workbench_of(options), _cell(options)
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
    classes = best_classes(crop_mean(preds.scores, preds.averaging))
    right = sum(
        int(labels[name] == best) for name, best in zip(preds.clip_ids, classes, strict=True)
    )
    print(f"{cell.id}: {right} of {len(clips.clips)} clips right (top-1)")
    status = print_unreadable(preds)
    if options.output is not None:
        write_predictions(options.output, preds)
    return status


def _cache(options: argparse.Namespace) -> int:
    store = ArtifactStore(site_of(options).cache_dir)
    if options.action == "prune":
        _require_limit(options)
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


def _require_limit(options: argparse.Namespace) -> None:
    if options.older_than_days is None and options.max_gb is None and options.kind is None:
        raise InputError(
            "prune needs --max-gb, --older-than-days or --kind to say what to remove; --max-gb 0 "
            "removes everything"
        )


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
        return bench.clip_set(spec.name)
    names = [str(number) for number in range(spec.class_count)]
    return clip_set_from_list(options.clips, names, name=options.clips.stem)
