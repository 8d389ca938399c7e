"""Which clips a model is judged on, from what this machine has."""

import ast
import functools
import importlib.util
from pathlib import Path

from harness.build import FIXTURES
from harness.data.kinetics import clip_set_from_list, content_fingerprint
from harness.errors import ClipError, MissingInput
from harness.site import Site
from harness.spec import ClipSet

KINETICS_LABELS = "models/_meta.py"
KINETICS_NAME = "_KINETICS400_CATEGORIES"


def clip_set_from_site(dataset: str, site: Site) -> ClipSet:
    """Return the whole data set of a model.

    Raises:
        MissingInput: this machine does not have it.
        ClipError: its list cannot be used.
    """
    if dataset == "motion8":
        return motion8()
    place = site.datasets.get(dataset)
    if place is None:
        raise MissingInput(
            f"data set {dataset} is not on this machine; name its list and root as "
            f"[datasets.{dataset}] in site.toml (site.example.toml shows how)"
        )
    return clip_set_from_list(place.list, _kinetics_classes(), place.root, dataset)


@functools.cache
def motion8() -> ClipSet:
    """Return the data set that the repository ships."""
    folder = FIXTURES / "motion8"
    names = (folder / "classes.txt").read_text(encoding="utf-8").split()
    # Its files are small, so that their bytes can be what the digest stands for.
    return clip_set_from_list(
        folder / "labels.txt", names, name="motion8", fingerprint=content_fingerprint
    )


@functools.cache
def _kinetics_classes() -> tuple[str, ...]:
    """Read the names, in the order of the labels, from the source of torchvision.

    mmaction2's wheel lacks its label map. Both are in alphabetical order; importing torchvision for
    a list of names would take seconds.
    """
    found = importlib.util.find_spec("torchvision")
    folders = [] if found is None else found.submodule_search_locations or []
    for path in (Path(folder) / KINETICS_LABELS for folder in folders):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == KINETICS_NAME:
                return tuple(ast.literal_eval(node.value))
    raise ClipError(
        f"torchvision, whose {KINETICS_LABELS} carries the Kinetics-400 class names as "
        f"{KINETICS_NAME}, is not installed or is another version; run the README's set-up command"
    )
