"""Without decord: its frames, byte for byte, or a refusal that says why."""

from types import SimpleNamespace

import av
import numpy as np
import pytest

from harness.data.video import _decoded_by_decord, decode_frames, decoders
from harness.data.whole import _decoded, _times
from harness.errors import ClipError

BOTH_SIDES = "frames around a key frame need others on both sides"
OTHER_KEYS = "its key frames need frames before them"
REFUSED = {
    "interlaced": "it is interlaced",
    "open_gop": OTHER_KEYS,
    "refresh": OTHER_KEYS,
    "h264_avi": "its H.264 is not packed",
    "h264_10_bit": "its pixels are yuv420p10le",
    "hevc_10_bit": "its pixels are yuv420p10le",
    "hevc_open_gop": BOTH_SIDES,
    "avi": "its codec is mpeg4",
    "mpeg4": "its codec is mpeg4",
    "mpeg4_b_frames": "its codec is mpeg4",
    "mpeg4_mp4": "its codec is mpeg4",
    "mpeg1": "its codec is mpeg1video",
    "mpeg2": "its codec is mpeg2video",
    "prores": "its codec is prores",
    "av1": "its codec is libdav1d",
    "vp8": "its codec is vp8",
    "mjpeg": "its codec is mjpeg",
    "wmv2": "its codec is wmv2",
    "flv1": "its codec is flv",
    "msmpeg4": "its codec is msmpeg4",
    "h263": "its codec is h263",
}


@pytest.fixture(autouse=True)
def _no_decord(monkeypatch):
    monkeypatch.setattr("harness.data.video._decord", lambda: None)


def choices(count):
    return {
        "all": range(count),
        "spread": tuple(count * step // 8 for step in range(8)),
        "backwards": (count - 1, count // 2, 0),
        "anyhow": tuple(np.random.default_rng(count).integers(0, count, 8).tolist()),
    }


def assert_decords(path):
    """Every choice of frames gives what decord gives for that choice."""
    data = path.read_bytes()
    for name in choices(1):
        found, expected = (
            np.stack(decode(what, lambda count, name=name: choices(count)[name]))
            for decode, what in ((decode_frames, path), (_decoded_by_decord, data))
        )
        np.testing.assert_array_equal(found, expected, name)


def assert_refused(path, reason):
    with pytest.raises(ClipError, match=rf"{path.name}: .*{reason}.*8-bit progressive H\.264"):
        decode_frames(path, range)


def test_frames_are_decords_or_the_clip_is_refused_by_name(odd_clip, request):
    name, path = odd_clip
    if name in REFUSED:
        assert_refused(path, REFUSED[name])
    else:
        request.getfixturevalue("decord")
        assert_decords(path)


def test_clips_of_a_camera_are_decords(camera_clip, decord):
    assert_decords(camera_clip)


def test_what_a_file_asks_its_player_to_do_is_refused(rotated_clip, hidden_frames_clip):
    assert_refused(rotated_clip, "its file asks to turn it")
    assert_refused(hidden_frames_clip, "an edit list or damage hides some of its frames")


@pytest.mark.parametrize("name", ["hevc", "vp9", "odd", "b_frames"])
def test_a_damaged_clip_is_never_silently_another(write_odd, name, decord):
    path = write_odd(name)
    whole, rng = path.read_bytes(), np.random.default_rng(5)
    for size in (1, 20, 200) * 5:
        data = bytearray(whole)
        start = int(rng.integers(len(whole) // 10, len(whole) - size))
        data[start : start + size] = rng.bytes(size)
        path.write_bytes(data)
        try:
            decode_frames(path, range)
        except ClipError:
            continue
        assert_decords(path)


def test_two_videos_in_a_file_are_refused(tmp_path, make_frames):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for pixels in make_frames(3):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    assert_refused(path, "it has 2 video streams")


def packet(pts, **facts):
    return SimpleNamespace(pts=pts, **{"is_discard": False, "is_corrupt": False, **facts})


@pytest.mark.parametrize(
    ("packets", "reason"),
    [
        ([packet(0), packet(None)], "no times, or the same"),
        ([packet(0), packet(0)], "no times, or the same"),
        ([packet(0, is_corrupt=True)], "an edit list or damage hides"),
        ([packet(0, is_keyframe=False), packet(1, is_keyframe=True)], BOTH_SIDES),
        ([packet(2, is_keyframe=True), packet(1, is_keyframe=False)], BOTH_SIDES),
    ],
)
def test_times_that_decord_may_read_otherwise_are_refused(packets, reason):
    with pytest.raises(ClipError, match=reason):
        _times(SimpleNamespace(codec_context=SimpleNamespace(name="mpeg4")), packets)


@pytest.mark.parametrize(
    ("picture", "reason"), [({"is_corrupt": True}, "damaged"), ({"width": 64}, "its size changes")]
)
def test_pictures_that_are_not_plain_are_refused(picture, reason):
    plain = {"is_corrupt": False, "interlaced_frame": False, "rotation": 0, "height": 16}
    shape = {"width": 32, "format": SimpleNamespace(name="yuv420p")}
    made = SimpleNamespace(**plain | shape | picture)
    context = SimpleNamespace(width=32, height=16, decode=lambda packet: [made])
    with pytest.raises(ClipError, match=reason):
        _decoded(context, [b""], [0], {0})


def test_frames_that_do_not_come_are_refused(tmp_path, write_clip, monkeypatch):
    path = write_clip(tmp_path / "clip.mkv", 5, codec="hevc", **{"x265-params": "log-level=0"})
    monkeypatch.setattr("harness.data.whole._times", lambda *_: [0, 1, 2, 3, 4, 5])
    assert_refused(path, "its frames do not come in the order of their times")


def test_the_decoders_are_those_that_can_be_imported():
    assert "decord" not in decoders()
