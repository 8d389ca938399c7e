"""The clips that a model is judged on, as this machine has them."""

import functools

from harness.clips import ClipSet
from harness.data.kinetics import clip_set_from_list, content_fingerprint
from harness.data.labels import kinetics400_names, names_from_map
from harness.data.manifest import clip_set_from_manifest, read_manifest
from harness.errors import MissingInput
from harness.host.site import FIXTURES, Site


def clip_set_from_site(dataset: str, site: Site) -> ClipSet:
    """Return the whole data set of a model.

    Raises:
        MissingInput: this machine does not have it.
        ClipError: its list cannot be used.
    """
    place = site.datasets.get(dataset)
    if place is None and dataset == "motion8":
        return motion8()
    if place is None:
        raise MissingInput(
            f"data set {dataset} is not on this machine; set its list and root in "
            f"[datasets.{dataset}] in site.toml (site.example.toml shows how)"
        )
    if place.manifest is not None:
        return clip_set_from_manifest(read_manifest(place.manifest, place.root))
    assert place.list is not None
    names = kinetics400_names() if place.label_map is None else names_from_map(place.label_map)
    return clip_set_from_list(place.list, names, place.root, dataset)


@functools.cache
def motion8() -> ClipSet:
    """Return the data set that ships with the repository."""
    folder = FIXTURES / "motion8"
    names = (folder / "classes.txt").read_text(encoding="utf-8").split()
    # Its files are small, so the digest covers their bytes.
    return clip_set_from_list(
        folder / "labels.txt", names, name="motion8", fingerprint=content_fingerprint
    )
