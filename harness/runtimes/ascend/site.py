"""site.toml -> CannTools: where this machine keeps its Ascend tools."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pydantic

from harness.host.site import DeviceIds, File, Site, SiteTable
from harness.runtimes.ascend.environment import CannTools, PinnedOm


# A key of any other form would name no cell, and the suite would judge its own build without a word.
def _cell_id(text: str) -> str:
    if not re.fullmatch(r"\w+-ascend\w+-bs[1-9]\d*(-\w+)?", text):
        raise ValueError("should be the id of a cell, such as nonlocal_r50-ascend310p-bs1")
    return text


CellId = Annotated[str, pydantic.AfterValidator(_cell_id)]


class Table(SiteTable):
    """Table ``[ascend]``: where the tools are; None means: as found on PATH or in the environment.

    Attributes:
        set_env: the script that CANN asks to be sourced.
        atc_python: interpreter for atc, which does not take every Python.
        ais_bench_python: interpreter that has ais_bench.
        npu_smi: the program npu-smi.
        device_ids: the only devices that may be used; empty: all that are found.
        models: offline models to take in place of a build, by cell.
    """

    set_env: File | None = None
    atc_python: File | None = None
    ais_bench_python: File | None = None
    npu_smi: File | None = None
    device_ids: DeviceIds = ()
    models: Mapping[CellId, PinnedOm] = {}

    @property
    def cells(self) -> Mapping[str, str]:
        """The keys of the offline models."""
        return {f"models.{cell}": cell for cell in self.models}


def tools_from_site(site: Site) -> CannTools:
    """Return the Ascend tools that site.toml sets; the others come from PATH and CANN's script."""
    ascend: Table = site.tables.get("ascend") or Table()
    return CannTools(
        npu_smi=_text(ascend.npu_smi) or "npu-smi",
        python=_text(ascend.ais_bench_python),
        atc_python=_text(ascend.atc_python),
        set_env=ascend.set_env,
        device_numbers=tuple(ascend.device_ids),
        models=ascend.models,
        scratch=site.cache_dir / "ascend" / "scratch",
        logs=site.cache_dir / "ascend" / "logs",
        locks=site.lock_dir,
    )


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)
