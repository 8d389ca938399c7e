"""The embedded data set motion8: eight classes that differ only in how one object moves.

A warm-coloured target moves, turns or changes its size over a plain background; in most clips a
cool-coloured distractor does another of the eight motions. Position, size and angle travel on
circles (an object that leaves its range enters again at the other end), so every single frame has
the same law in all eight classes, and a clip played backwards is a clip of the paired class.

    python -m harness.data.motion8 --out DIR --count N --seed S

Rendered frames depend on (seed, index) alone, bit for bit. The H.264 bytes depend on the x264
build as well: for the shipped clips the files and their sha256 in `fixtures/manifest.toml` are
the truth, not this program.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

CLASSES: Final = (
    "move_left",
    "move_right",
    "move_up",
    "move_down",
    "turn_clockwise",
    "turn_counterclockwise",
    "grow",
    "shrink",
)
WIDTH: Final = 112
HEIGHT: Final = 72
FRAMES: Final = 36
FPS: Final = 16
HELD_OUT_SEED: Final = 8
HELD_OUT_COUNT: Final = 480

# The ranges that x, y, the logarithm of the radius and the angle run around in (pixels, radians).
LOWS: Final = (WIDTH / 2 - 22.0, HEIGHT / 2 - 22.0, math.log(7.0), 0.0)
SPANS: Final = (44.0, 44.0, math.log(15.0 / 7.0), 2.0 * math.pi)
# Uniform shake of each frame, in the same units: it hides motion from frames too close together.
SHAKES: Final = (1.2, 1.2, 0.03, 0.1)
TRAVEL: Final = ((0.6, 0.9), (0.6, 0.9), (0.6, 0.9), (0.45, 0.7))  # shares of a span in a clip
MOTIONS: Final = ((0, -1), (0, 1), (1, -1), (1, 1), (3, 1), (3, -1), (2, 1), (2, -1))

# Convex outlines as half planes (nx, ny, offset), in units of the radius.
OUTLINES: Final = (
    ((1.0, 0.0, 0.92), (-1.0, 0.0, 0.92), (0.0, 1.0, 0.38), (0.0, -1.0, 0.38)),
    ((-1.0, 0.0, 0.75), (0.342, 0.94, 0.342), (0.342, -0.94, 0.342)),
    ((0.447, 0.894, 0.45), (0.447, -0.894, 0.45), (-0.8, 0.6, 0.55), (-0.8, -0.6, 0.55)),
)
DISTRACTOR_SHARE: Final = 0.7

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Track:
    """One object: what it looks like and where it is in each frame."""

    motion: int
    outline: int
    colour: tuple[float, float, float]
    states: Floats  # (FRAMES, 4): x, y, log radius, angle


@dataclass(frozen=True)
class Scene:
    """All that a clip shows, before rendering."""

    target: Track
    distractor: Track | None
    ground: tuple[float, float, float]
    slope: tuple[float, float]

    @property
    def label(self) -> int:
        """Return the class id of the clip."""
        return self.target.motion


def label_of(seed: int, index: int) -> int:
    """Return the class id of a clip; each run of eight indices holds every class once."""
    order = np.random.default_rng((seed, 0, index // len(CLASSES))).permutation(len(CLASSES))
    return int(order[index % len(CLASSES)])


def scene_from_seed(seed: int, index: int) -> Scene:
    """Return the scene of one clip.

    Args:
        seed: The data set; the shipped one is `HELD_OUT_SEED`.
        index: The clip in the data set.
    """
    rng = np.random.default_rng((seed, 1, index))
    label = label_of(seed, index)
    target = _track(rng, label, warm=True)
    other = (label + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
    distractor = _track(rng, other, warm=False)
    grey = float(rng.uniform(70.0, 170.0))
    tint = rng.uniform(-12.0, 12.0, 3)
    slope = rng.uniform(-30.0, 30.0, 2)
    return Scene(
        target=target,
        distractor=distractor if rng.uniform() < DISTRACTOR_SHARE else None,
        ground=(grey + float(tint[0]), grey + float(tint[1]), grey + float(tint[2])),
        slope=(float(slope[0]), float(slope[1])),
    )


def _track(rng: np.random.Generator, motion: int, *, warm: bool) -> Track:
    strong, weak = float(rng.uniform(200.0, 255.0)), float(rng.uniform(0.0, 50.0))
    middle = float(rng.uniform(20.0, 110.0))
    colour = (strong, middle, weak) if warm else (weak, middle, strong)
    return Track(motion, int(rng.integers(len(OUTLINES))), colour, _states(rng, motion))


def _states(rng: np.random.Generator, motion: int) -> Floats:
    moving, sign = MOTIONS[motion]
    times = np.arange(FRAMES) / FRAMES
    columns = []
    for axis in range(len(LOWS)):
        start, travel = rng.uniform(), rng.uniform(*TRAVEL[axis])
        phase = start + sign * travel * times if axis == moving else np.full(FRAMES, start)
        shake = rng.uniform(-1.0, 1.0, FRAMES) * SHAKES[axis]
        columns.append(LOWS[axis] + SPANS[axis] * (phase % 1.0) + shake)
    # Rounded, so that the last bits of this machine's arithmetic cannot reach a pixel.
    return np.round(np.stack(columns, axis=1), 6)


def frames_from_scene(scene: Scene) -> Frames:
    """Return the rendered frames, (FRAMES, HEIGHT, WIDTH, 3) in RGB."""
    rows = (np.arange(HEIGHT) + 0.5)[:, None]
    columns = (np.arange(WIDTH) + 0.5)[None, :]
    slope = scene.slope[0] * (columns / WIDTH - 0.5) + scene.slope[1] * (rows / HEIGHT - 0.5)
    ground = slope[:, :, None] + np.array(scene.ground)
    frames = np.empty((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for time in range(FRAMES):
        frame = ground.copy()
        for track in (scene.distractor, scene.target):
            if track is not None:
                _paint(frame, track, time)
        frames[time] = np.clip(np.floor(frame + 0.5), 0.0, 255.0)
    return frames


def _paint(frame: Floats, track: Track, time: int) -> None:
    x, y, log_radius, angle = (float(value) for value in track.states[time])
    radius = round(math.exp(log_radius), 6)
    cosine, sine = round(math.cos(angle), 6), round(math.sin(angle), 6)
    top, left = max(int(y - radius) - 1, 0), max(int(x - radius) - 1, 0)
    patch = frame[top : int(y + radius) + 2, left : int(x + radius) + 2]
    dy = (np.arange(patch.shape[0]) + top + 0.5 - y)[:, None]
    dx = (np.arange(patch.shape[1]) + left + 0.5 - x)[None, :]
    along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
    distance = np.full(patch.shape[:2], -np.inf)
    for nx, ny, offset in OUTLINES[track.outline]:
        distance = np.maximum(distance, along * nx + across * ny - offset * radius)
    alpha = np.clip(0.5 - distance, 0.0, 1.0)[:, :, None]
    # The front is lighter than the tail, so that a half turn shows.
    light = np.clip(0.8 + 0.35 * along / radius, 0.4, 1.1)[:, :, None]
    patch += alpha * (light * np.array(track.colour) - patch)


def write_clip(path: Path, frames: Frames, crf: int = 20) -> None:
    """Encode frames as one H.264 yuv420p mp4 file.

    Args:
        path: The file to write.
        frames: The RGB frames, (T, H, W, 3).
        crf: The quality of x264; 0 is lossless, 51 the worst.
    """
    import av

    with av.open(str(path), "w", format="mp4") as container:
        options = {"crf": str(crf), "preset": "medium", "threads": "1"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def clip_name(index: int) -> str:
    """Return the file name of a clip, which says nothing about its class."""
    return f"{index:04d}.mp4"


def generate(out: Path, count: int, seed: int) -> Iterator[Path]:
    """Write a data set and yield each clip as it is done.

    Args:
        out: The folder that gets `clips/`, `labels.txt` and `classes.txt`.
        count: The number of clips.
        seed: The data set to draw.
    """
    (out / "clips").mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(count):
        path = out / "clips" / clip_name(index)
        write_clip(path, frames_from_scene(scene_from_seed(seed, index)))
        lines.append(f"clips/{path.name} {label_of(seed, index)}\n")
        yield path
    (out / "labels.txt").write_text("".join(lines), encoding="utf-8")
    (out / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.data.motion8", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--count", type=int, default=HELD_OUT_COUNT, help="number of clips")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="which data set")
    options = parser.parse_args(arguments)
    size_bytes = sum(
        path.stat().st_size for path in generate(options.out, options.count, options.seed)
    )
    sys.stdout.write(f"{options.count} clips, {size_bytes} bytes, in {options.out}\n")


if __name__ == "__main__":
    main()
