"""site.toml -> CannTools: where this machine keeps its Ascend tools."""

from pathlib import Path

from harness.host.site import Site
from harness.runtimes.ascend.environment import CannTools


def tools_from_site(site: Site) -> CannTools:
    """Return the Ascend tools that site.toml sets; the others come from PATH and CANN's script."""
    ascend = site.ascend
    return CannTools(
        npu_smi=_text(ascend.npu_smi) or "npu-smi",
        python=_text(ascend.ais_bench_python),
        atc_python=_text(ascend.atc_python),
        set_env=ascend.set_env,
        device_numbers=tuple(ascend.device_ids),
        scratch=site.cache_dir / "ascend" / "scratch",
        logs=site.cache_dir / "ascend" / "logs",
        locks=site.lock_dir,
    )


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)
