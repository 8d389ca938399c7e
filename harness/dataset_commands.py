"""The commands of data sets: ``harness dataset scan`` and what is made from its manifest."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from harness.data.labels import KINETICS400, kinetics400_names, names_from_map
from harness.data.manifest import Manifest, problem_count, write_manifest
from harness.data.scan import Source, scan
from harness.progress import Progress
from harness.site import Site, load_site

SHOWN = 20


def add_commands(commands: Any) -> None:
    """Add ``dataset`` to the subcommands of ``harness``."""
    text = "scan a data set, extract raw frames, write the guides' files"
    parser = commands.add_parser("dataset", help=text, description=text)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_scan(actions)


def _add_scan(actions: Any) -> None:
    text = (
        "look at every clip and write a manifest: labels from a list, from val.csv, or from the "
        "folders of the classes; exit status 1 when something is wrong with the set"
    )
    added = actions.add_parser("scan", help="write the manifest of a data set", description=text)
    added.set_defaults(function=_scan)
    added.add_argument("root", type=Path, help="folder of the clips: videos or raw frames")
    added.add_argument("--output", type=Path, required=True, metavar="MANIFEST")
    added.add_argument("--name", default=KINETICS400, help=f"of the set; default: {KINETICS400}")
    added.add_argument("--annotations", type=Path, metavar="CSV", help="val.csv of the data set")
    added.add_argument("--list", type=Path, help="lines of: path label, or: folder frames label")
    added.add_argument("--label-map", type=Path, metavar="FILE", help="a class name on each line")
    added.add_argument("--content", action="store_true", help="digest the bytes, not the sizes")


def _scan(options: argparse.Namespace) -> int:
    names = kinetics400_names() if options.label_map is None else names_from_map(options.label_map)
    source = Source(
        root=options.root,
        class_names=names,
        name=options.name,
        annotations=options.annotations,
        listing=options.list,
        is_content=options.content,
    )
    manifest = scan(source, lambda total: Progress(sys.stderr).counter("scan", total))
    write_manifest(manifest, options.output)
    _print_manifest(manifest)
    print(f"manifest {options.output}, digest {manifest.digest}")
    return 1 if problem_count(manifest.problems) else 0


def _print_manifest(manifest: Manifest) -> None:
    classes = len({clip.label for clip in manifest.clips})
    print(f"{manifest.name}: {len(manifest.clips)} clips of {classes} classes in {manifest.root}")
    for note in manifest.notes:
        print(f"note: {note}")
    for kind, lines in manifest.problems.items():
        print(f"{kind}: {len(lines)}")
        for line in lines[:SHOWN]:
            print(f"  {line}")
        if len(lines) > SHOWN:
            print(f"  and {len(lines) - SHOWN} more; all are in the manifest")


def _site(options: argparse.Namespace) -> Site:
    return load_site(options.site, os.environ)
