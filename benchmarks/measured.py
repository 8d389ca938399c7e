"""What the benchmarks share: a workbench with its own cache, and the lines that say whether a goal is met."""

import os
import tempfile
from pathlib import Path

from harness.build.workbench import Workbench
from harness.host.progress import Progress
from harness.host.site import load_site


def workbench(cache: Path | None = None) -> Workbench:
    """Return a workbench on the machine's own cache, or on ``cache``."""
    environ = dict(os.environ)
    if cache is not None:
        environ["ACCEPTANCE_CACHE_DIR"] = str(cache)
    return Workbench(load_site(None, environ), Path(tempfile.mkdtemp(prefix="bench-")), Progress())


def finish(name: str, figure: float, goal: float, *, at_least: bool, note: str = "") -> int:
    """Print a figure with its goal and return the exit status: 1 when the goal is missed.

    A benchmark with several goals exits with the largest status; its last line is the figure of docs/measured.md.
    """
    is_met = figure >= goal if at_least else figure <= goal
    sign = ">=" if at_least else "<="
    if note:
        print(f"  {note}")
    print(f"{name}: {figure:.4g} (goal {sign} {goal:g}{'' if is_met else ', missed'})")
    return 0 if is_met else 1
