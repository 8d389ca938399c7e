import io
import os
import wave

import av
import cv2
import numpy as np
import pytest

from harness.data.video import count_frames, decode_as_extracted, decode_frames, iterate_frames
from harness.errors import ClipError


def all_of(frame_count):
    return tuple(range(frame_count))


def test_frames_are_those_of_mmaction2(clip_path, mmaction, decord):
    pipelines = mmaction.datasets.pipelines
    opened = pipelines.DecordInit(num_threads=1)({"filename": str(clip_path)})
    wanted = np.arange(opened["total_frames"])
    expected = pipelines.DecordDecode()({**opened, "frame_inds": wanted})["imgs"]
    actual = decode_frames(clip_path, all_of)
    np.testing.assert_array_equal(np.stack(actual), np.stack(expected))


def test_frames_are_those_that_opencv_extracts(clip_path):
    capture = cv2.VideoCapture(str(clip_path))
    expected = []
    while (read := capture.read())[0]:
        expected.append(read[1][..., ::-1])
    np.testing.assert_array_equal(np.stack(list(iterate_frames(clip_path))), np.stack(expected))
    actual = decode_as_extracted(clip_path, all_of)
    np.testing.assert_array_equal(np.stack(actual), np.stack(expected))


def test_frames_that_an_edit_list_hides_are_there_for_decord_and_not_for_opencv(
    hidden_frames_clip, mmaction, decord
):
    test_frames_are_those_of_mmaction2(hidden_frames_clip, mmaction, decord)
    test_frames_are_those_that_opencv_extracts(hidden_frames_clip)
    counts = count_frames(hidden_frames_clip), count_frames(hidden_frames_clip, is_shown=True)
    assert counts == (30, 25)


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_a_name_that_is_not_utf8_is_read(tmp_path, write_clip, codec):
    path = write_clip(tmp_path / "clip.mp4", 12, codec=codec)
    odd = path.with_name(os.fsdecode(b"caf\xe9.mp4"))
    expected = np.stack(decode_as_extracted(path, all_of))
    path.rename(odd)
    np.testing.assert_array_equal(np.stack(list(iterate_frames(odd))), expected)
    np.testing.assert_array_equal(np.stack(decode_as_extracted(odd, all_of)), expected)


def test_a_rotated_clip_is_turned_upright_as_opencv_does(rotated_clip, decord):
    expected = cv2.VideoCapture(str(rotated_clip)).read()[1][..., ::-1]
    actual = decode_frames(rotated_clip, lambda count: (0,))[0]
    assert actual.shape == (128, 96, 3)
    np.testing.assert_array_equal(actual, expected)


def test_the_chooser_sees_the_frame_count_and_its_order_is_kept(tmp_path, write_clip):
    path = write_clip(tmp_path / "clip.mp4", 12, bf="2")
    counts = []

    def choose(frame_count):
        counts.append(frame_count)
        return (7, 2, 7, 11)

    frames = decode_frames(path, choose)
    whole = decode_frames(path, all_of)
    assert counts == [12]
    np.testing.assert_array_equal(np.stack(frames), np.stack([whole[i] for i in (7, 2, 7, 11)]))


def test_frames_are_rgb(tmp_path):
    path = tmp_path / "red.mp4"
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 220
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode())
    (frame,) = decode_frames(path, all_of)
    assert frame.dtype == np.uint8
    assert cv2.mean(frame)[:3] == pytest.approx((220, 0, 0), abs=8)


def test_a_name_may_have_spaces_and_any_letters(tmp_path, write_clip):
    path = tmp_path / "wäsche falten 折.mp4"
    path.write_bytes(write_clip(tmp_path / "plain.mp4", 3).read_bytes())
    assert len(decode_frames(path, all_of)) == 3


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ClipError, match=r"gone\.mp4: No such file .* check the list"):
        decode_frames(tmp_path / "gone.mp4", all_of)


def test_a_folder_is_named(tmp_path):
    with pytest.raises(ClipError, match="Is a directory"):
        decode_frames(tmp_path, all_of)


def test_an_empty_file_is_named(tmp_path):
    path = tmp_path / "empty.mp4"
    path.touch()
    with pytest.raises(ClipError, match=r"empty\.mp4: the file is empty"):
        decode_frames(path, all_of)


@pytest.mark.parametrize("content", [b"hello " * 999, bytes(9999), b"\x00\x00\x00\x08ftyp" * 99])
def test_what_is_not_a_video_is_named(tmp_path, capfd, content):
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(ClipError, match=r"notes\.mp4: not a video \(Invalid data.* from the list"):
        decode_frames(path, all_of)
    assert capfd.readouterr().err == ""


def test_noise_is_named_and_not_printed(tmp_path, capfd):
    path = tmp_path / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    with pytest.raises(ClipError, match="not a video"):
        decode_frames(path, all_of)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("extension", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_a_truncated_clip_is_named(tmp_path, write_clip, extension, kept):
    codec = "mpeg4" if extension == "avi" else "h264"
    path = write_clip(tmp_path / f"cut.{extension}", 40, codec=codec)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ClipError, match=rf"cut\.{extension}: truncated, \d+ of its bytes"):
        decode_frames(path, all_of)


def test_a_hole_in_the_stream_is_named(tmp_path, write_clip, capfd):
    path = write_clip(tmp_path / "hole.mp4", 60, bf="2", g="12")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle // 2 : middle] = bytes(middle - middle // 2)
    path.write_bytes(data)
    with pytest.raises(
        ClipError, match=r"hole\.mp4: it does not decode \((Check failed|.*Invalid data)"
    ):
        decode_frames(path, all_of)
    assert capfd.readouterr().err == ""


def test_sound_alone_is_named(tmp_path):
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with pytest.raises(ClipError, match=r"sound\.wav: it has no video stream"):
        decode_frames(path, all_of)


def test_a_clip_that_the_chooser_refuses_is_named(tmp_path, write_clip):
    def refuse(frame_count):
        raise ClipError(f"{frame_count} frames are too few")

    path = write_clip(tmp_path / "short.mp4", 2)
    with pytest.raises(ClipError, match=r"short\.mp4: 2 frames are too few"):
        decode_frames(path, refuse)


def test_a_reader_without_frames_is_named(tmp_path, write_clip, decord, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr("decord.VideoReader", refuse)
    path = write_clip(tmp_path / "clip.avi", 2, codec="mpeg4")
    with pytest.raises(ClipError, match=r"\(AssertionError\)"):
        decode_frames(path, all_of)


def test_the_colour_matrix_of_the_file_counts_for_decord_alone(tmp_path, write_clip):
    tagged = {"x264-params": "colormatrix=bt709"}
    path = write_clip(tmp_path / "tagged.mp4", 3, **tagged)
    video, extracted = (read(path, all_of)[1] for read in (decode_frames, decode_as_extracted))
    assert np.abs(video.astype(int) - extracted).max() > 10


def test_frames_are_counted_without_decoding(tmp_path, write_clip):
    assert count_frames(write_clip(tmp_path / "clip.mkv", 17, bf="2")) == 17


def test_a_file_without_frames_is_named(tmp_path, write_clip, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", 2)
    monkeypatch.setattr("harness.data.video._content", lambda path: write_nothing())
    with pytest.raises(ClipError, match="it has no frames"):
        count_frames(path)


def write_nothing():
    """A file whose stream has a header and no picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    return buffer.getvalue()


def test_opencv_that_stops_early_is_noticed(tmp_path, write_clip, monkeypatch):
    path = write_clip(tmp_path / "clip.avi", 5, codec="mpeg4")
    monkeypatch.setattr("harness.data.video.count_frames", lambda path, is_shown: 6)
    with pytest.raises(ClipError, match="OpenCV reads only 5 of its 6 frames"):
        list(iterate_frames(path))
