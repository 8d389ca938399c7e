"""The commands ``model add`` and ``model check``."""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import registry
from harness.build.build import weights_from_site
from harness.build.onnx_declaration import declared_from_file
from harness.build.torch_model import check_checkpoint_digest, torch_model_from_spec
from harness.check.model_check import look_at_model
from harness.cli.arguments import (
    add_command,
    add_group,
    add_thresholds,
    number,
    positive,
    site_of,
    workbench_of,
)
from harness.contract.add_model import (
    NewModel,
    contract_with,
    declaration,
    require_new_name,
    write_model,
)
from harness.contract.thresholds import thresholds_from_file
from harness.data.datasets import clip_set_from_site
from harness.errors import InputError, MissingInput
from harness.host.site import Site
from harness.spec import ModelSpec
from harness.zoo.config import config_path
from harness.zoo.metafile import ZooEntry, entry_of_checkpoint
from harness.zoo.model import model_spec_from_config, name_from_config


def add_commands(commands: Any) -> None:
    """Add ``model`` to the subcommands of ``harness``."""
    text = "add a model of mmaction2, or look whether one is ready to be judged"
    actions = add_group(commands, "model", text)
    text = (
        "write the declaration of a model and its tables in thresholds.toml, from a configuration "
        "of mmaction2 and what its model zoo says of the checkpoint"
    )
    added = add_command(actions, "add", _add, text, "add a model from its configuration")
    added.add_argument(
        "config", help="below mmaction/.mim/configs, or the path of your own; or an ONNX file"
    )
    added.add_argument(
        "checkpoint", nargs="?", help="file or file name; default: the zoo's only one"
    )
    added.add_argument("--name", help="default: the configuration's")
    text = "of an ONNX file: the model or configuration whose clips it takes"
    added.add_argument("--protocol", metavar="NAME", help=text)
    text = "of an ONNX file with several inputs: the frames of a clip that each takes; repeatable"
    added.add_argument(
        "--frames",
        type=_frames,
        action="append",
        default=[],
        metavar="INPUT=FROM:TO[:STEP]",
        help=text,
    )
    added.add_argument("--dataset", help="name of the clip set; default: the configuration's")
    share = number("a share above 0 and at most 1", lambda value: 0.0 < value <= 1.0)
    text = "accuracy of your own checkpoint"
    added.add_argument("--top1", type=share, metavar="SHARE", help=text)
    added.add_argument("--top5", type=share, metavar="SHARE", help="as --top1")
    added.add_argument("--source", metavar="TEXT", help="where --top1 and --top5 come from")
    added.add_argument("--clip-count", type=positive, metavar="N", help="clips of a new clip set")
    added.add_argument("--device", action="append", help="repeatable; default: cpu")
    added.add_argument(
        "--batch-size", type=positive, action="append", metavar="N", help="default: 1"
    )
    added.add_argument("--dry-run", action="store_true", help="only show what would be written")
    add_thresholds(added)
    text = (
        "compare a model's protocol with mmaction2's pipeline, export it with one view, and compare "
        "it with PyTorch; exit status 1 if something is not as it should be"
    )
    look = add_command(actions, "check", _check, text, "look at a model, in minutes")
    look.add_argument("name", help="name, as `harness models` lists it")
    add_thresholds(look)


def _add(options: argparse.Namespace) -> int:
    new = _new_model(options)
    if options.dry_run:
        before = options.thresholds.read_text(encoding="utf-8")
        print(f"# harness/models/{new.spec.name}.py\n{declaration(new.spec)}")
        print(f"# {options.thresholds}")
        print("".join(_added_lines(before, contract_with(before, new))))
        return 0
    notes = list(_missing(new.spec, site_of(options)))
    path, _ = write_model(new, options.thresholds)
    print(f"wrote {path}\nwrote the tables of {new.spec.name} in {options.thresholds}")
    for note in notes:
        print(f"note: {note}")
    print(f"now run:\n  harness model check {new.spec.name}")
    for device in new.devices:
        print(f"  pytest -m {device} --model {new.spec.name} acceptance/")
    if "cpu" in new.devices:
        print(f"  harness calibrate '{new.spec.name}-cpu-*'    # a floor for its speed")
    return 0


def _check(options: argparse.Namespace) -> int:
    spec, bench = registry.model_spec(options.name), workbench_of(options)
    table = thresholds_from_file(options.thresholds).file.models.get(spec.name)
    if table is None:
        raise InputError(
            f"{options.thresholds} has no models.{spec.name}; `harness model add` writes it"
        )
    weights, is_good = bench.weights(spec.name), True
    print(
        f"{spec.name}: {weights.path or f'seeded weights, as {spec.checkpoint} is not on this machine'}"
    )
    for looked in look_at_model(spec, weights, table.parity["fp32"], bench.workshop):
        print(looked, flush=True)
        is_good = is_good and looked.is_good
    return 0 if is_good else 1


def _missing(spec: ModelSpec, site: Site) -> Iterator[str]:
    """Say what of a model this machine lacks, and what that costs."""
    try:
        if weights_from_site(spec, site).path is None:
            yield (
                f"{spec.checkpoint} is not on this machine; until `checkpoints` in site.toml names its "
                "folder, weights are seeded and accuracy is not judged"
            )
    except MissingInput as error:
        yield str(error)
    try:
        clip_set_from_site(spec.dataset, site)
    except MissingInput as error:
        yield f"{error}; until then accuracy is not judged"


def _new_model(options: argparse.Namespace) -> NewModel:
    is_file = options.config.endswith(".onnx")
    spec, entry = (_from_file if is_file else _from_config)(options)
    devices = options.device or ["cpu"]
    for device in devices:
        registry.device_spec(device)
    zoo = f"mmaction2 0.24.1 model zoo, {entry.checkpoint}; floor: 99 % of it"
    own = [] if spec.frozen_batch is None else [spec.frozen_batch]
    return NewModel(
        spec=spec,
        top1=entry.top1 or 0.0,
        top5=entry.top5,
        source=options.source or zoo,
        clip_count=_clip_count(options, spec),
        devices=devices,
        batches=options.batch_size or own or [1],
    )


def _from_file(options: argparse.Namespace) -> tuple[ModelSpec, ZooEntry]:
    """Return what an ONNX file declares, and its accuracy, which nobody but its author knows."""
    path = Path(options.config)
    if not (options.protocol and options.top1 and options.source):
        raise InputError(
            f"{path.name} says neither what it is fed nor how good it is: give --protocol, --top1 and "
            "--source"
        )
    if options.protocol in registry.model_names():
        like = registry.model_spec(options.protocol)
    else:
        like = model_spec_from_config(_config(options.protocol), "")
    spec = declared_from_file(
        path,
        like.protocol,
        dict(options.frames),
        name=options.name or name_from_config(path.stem.rpartition("-")[0]),
        dataset=options.dataset or like.dataset,
        config=like.config,
    )
    require_new_name(spec.name)
    return spec, ZooEntry(path.name, options.top1, options.top5)


def _from_config(options: argparse.Namespace) -> tuple[ModelSpec, ZooEntry]:
    differences = {
        key: getattr(options, key) for key in ("name", "dataset") if getattr(options, key)
    }
    config = _config(options.config)
    plain = model_spec_from_config(config, "", calibrated=True, **differences)
    require_new_name(plain.name)
    given = None if options.checkpoint is None else Path(options.checkpoint)
    entry = _entry(options, config, None if given is None else given.name)
    spec = dataclasses.replace(plain, checkpoint=entry.checkpoint)
    _require_fitting(spec, given)
    if entry.top1 is None:
        raise InputError(
            f"the model zoo has no top-1 for {entry.checkpoint}; give --top1 and --source"
        )
    return spec, entry


def _config(given: str) -> str:
    """Return a configuration as a declaration names it, given as mmaction2's or as any path."""
    own = Path(given)
    return str(own.resolve()) if own.is_file() and not config_path(given).is_file() else given


def _require_fitting(spec: ModelSpec, given: Path | None) -> None:
    """Refuse a file of other weights than the model's; a bare name need not be on this machine."""
    if given is not None and (given.exists() or given.name != str(given)):
        check_checkpoint_digest(given)
        torch_model_from_spec(spec, given)


def _entry(options: argparse.Namespace, config: str, checkpoint: str | None) -> ZooEntry:
    if options.top1 is None:
        return entry_of_checkpoint(config, checkpoint)
    if checkpoint is None or not options.source:
        raise InputError("--top1 is of a checkpoint of your own: give the checkpoint and --source")
    return ZooEntry(checkpoint, options.top1, options.top5)


def _clip_count(options: argparse.Namespace, spec: ModelSpec) -> int:
    """Return the clips of a model's data set: the contract's, given, or found on this machine."""
    known = thresholds_from_file(options.thresholds).file.clip_sets.get(spec.dataset)
    if known is not None:
        if known.class_count not in (None, spec.class_count):
            raise InputError(
                f"the head has {spec.class_count} classes, {spec.dataset} has {known.class_count}; "
                "name the data set that the model was trained on with --dataset"
            )
        return known.clip_count
    if options.clip_count is not None:
        return int(options.clip_count)
    try:
        clip_set = clip_set_from_site(spec.dataset, site_of(options))
    except MissingInput as error:
        raise InputError(f"{error}, or say how many clips it has with --clip-count") from error
    if len(clip_set.class_names) != spec.class_count:
        raise InputError(
            f"the head has {spec.class_count} classes, {spec.dataset} on this machine has "
            f"{len(clip_set.class_names)}; correct its label map in site.toml, or give --dataset"
        )
    return len(clip_set.clips)


def _added_lines(before: str, after: str) -> list[str]:
    import difflib

    lines = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line[2:] for line in lines if line.startswith("+ ")]


def _frames(text: str) -> tuple[str, tuple[int, ...]]:
    """Read ``slow=0:8:4`` as the frames 0 and 4 of the input ``slow``."""
    name, _, told = text.rpartition("=")
    parts = told.split(":")
    if (
        not name
        or len(parts) not in (2, 3)
        or not all(map(str.isdecimal, parts))
        or parts[2:] == ["0"]
    ):
        raise argparse.ArgumentTypeError(f"{text!r} does not say frames as slow=0:8:4 does")
    return name, tuple(range(*map(int, parts)))
