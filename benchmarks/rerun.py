"""A second build with nothing changed: its time relative to the first, and what it repeats.

python benchmarks/rerun.py
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measured import finish

GOAL = 0.15
BUILD = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from measured import workbench
from harness.spec import Cell
if __name__ == "__main__":
    bench = workbench(Path({cache!r}))
    for model in ("nonlocal_tiny", "timesformer_tiny", "nonlocal_r50"):
        bench.device_model(Cell(model, "cpu", 1))
    for event in bench.workshop.store.events:
        print("built" if not event.hit else "kept", event.kind)
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as cache:
        script = Path(cache) / "build.py"
        script.write_text(BUILD.format(folder=str(Path(__file__).parent), cache=cache))
        times, outputs = [], []
        for name in ("first", "second"):
            start_s = time.perf_counter()
            run = subprocess.run(
                [sys.executable, script], check=True, capture_output=True, text=True
            )
            times.append(time.perf_counter() - start_s)
            outputs.append(run.stdout.splitlines())
            built = sum(line.startswith("built") for line in outputs[-1])
            print(f"  {name:<7}{times[-1]:8.1f} s   {built} artifacts built")
    repeated = [line for line in outputs[1] if line.startswith("built")]
    if repeated:
        print(f"  the second run built again: {', '.join(repeated)}")
        return 1
    return finish("rerun", times[1] / times[0], GOAL, at_least=False)


if __name__ == "__main__":
    sys.exit(main())
