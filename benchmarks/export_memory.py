"""Peak memory of a TimeSformer export over the size of its float32 weights.

python benchmarks/export_memory.py
"""

import sys
import tempfile
from pathlib import Path

from measured import finish, workbench

from harness.spec import Cell

GOAL = 4.0


def main() -> int:
    with tempfile.TemporaryDirectory() as cache:
        model = workbench(Path(cache)).exported(Cell("timesformer", "cpu", 1))
        facts = model.artifact.provenance["facts"]
    print(f"  weights {facts['weight_bytes'] / 1e6:8.0f} MB")
    print(f"  peak    {facts['peak_bytes'] / 1e6:8.0f} MB in {facts['seconds']:.0f} s")
    return finish(
        "export_memory", facts["peak_bytes"] / facts["weight_bytes"], GOAL, at_least=False
    )


if __name__ == "__main__":
    sys.exit(main())
