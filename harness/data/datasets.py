"""The clips that a model is judged on, as this machine has them."""

import dataclasses
import functools
from pathlib import Path

from harness.clips import ClipSet
from harness.data.kinetics import clip_set_from_list, digest_from_clips
from harness.data.labels import kinetics400_names, names_from_map
from harness.data.manifest import clip_set_from_manifest, fingerprint, read_manifest
from harness.errors import ClipError, MissingInput
from harness.host.site import FIXTURES, Site
from harness.spec import ModelSpec

MOTION8 = "motion8"


def clip_set_from_site(dataset: str, site: Site) -> ClipSet:
    """Return the whole data set of a model.

    Raises:
        MissingInput: this machine does not have it.
        ClipError: its list cannot be used.
    """
    place = site.datasets.get(dataset)
    if place is None and dataset == MOTION8:
        return motion8()
    if place is None:
        raise MissingInput(
            f"data set {dataset} is not on this machine; set its list and root in "
            f"[datasets.{dataset}] in site.toml (site.example.toml shows how)"
        )
    if place.manifest is not None:
        found = clip_set_from_manifest(read_manifest(place.manifest, place.root))
    else:
        assert place.list is not None
        names = class_names(dataset, place.label_map)
        found = clip_set_from_list(place.list, names, place.root, dataset)
    return _with_content_digest(found) if dataset == MOTION8 else found


def class_names(dataset: str, label_map: Path | None = None) -> tuple[str, ...]:
    """Return the class names of a data set by id: of its label map, or else those that are known.

    Raises:
        ClipError: the label map cannot be used, or the names are not on this machine.
    """
    if label_map is not None:
        return names_from_map(label_map)
    return motion8().class_names if dataset == MOTION8 else kinetics400_names()


def require_classes(clip_set: ClipSet, spec: ModelSpec) -> None:
    """Refuse clips of other classes than those of a model.

    Raises:
        ClipError: their number differs.
    """
    count = len(clip_set.class_names)
    if count != spec.class_count:
        raise ClipError(
            f"{clip_set.name} has {count} class names on this machine, {spec.name} tells "
            f"{spec.class_count} classes apart; correct the label map of {spec.dataset}, in site.toml or "
            "in the scan of its manifest"
        )


@functools.cache
def motion8() -> ClipSet:
    """Return the data set that ships with the repository."""
    folder = FIXTURES / MOTION8
    names = (folder / "classes.txt").read_text(encoding="utf-8").split()
    return _with_content_digest(clip_set_from_list(folder / "labels.txt", names, name=MOTION8))


def _with_content_digest(clip_set: ClipSet) -> ClipSet:
    """Return motion8 with the digest that the contract has: its files are small, so over their bytes."""
    digest = digest_from_clips(clip_set.clips, functools.partial(fingerprint, is_content=True))
    return dataclasses.replace(clip_set, digest=digest)
