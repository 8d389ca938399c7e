"""Which clips a model is judged on, from what this machine has."""

import functools
import importlib.util
from pathlib import Path

from harness.build import FIXTURES
from harness.data.kinetics import clip_set_from_list, content_fingerprint
from harness.errors import ClipError, MissingInput
from harness.site import Site
from harness.spec import ClipSet

KINETICS_LABELS = "tools/data/kinetics/label_map_k400.txt"


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


def _kinetics_classes() -> tuple[str, ...]:
    found = importlib.util.find_spec("mmaction")
    if found is None or found.origin is None:
        raise ClipError("mmaction2, which carries the Kinetics-400 class names, is not installed")
    path = Path(found.origin).parent / ".mim" / KINETICS_LABELS
    return tuple(path.read_text(encoding="utf-8").split("\n"))[:400]
