from types import SimpleNamespace

import av
import numpy as np
import pytest

from harness.data import skipping
from harness.data.skipping import (
    Coded,
    Kind,
    NotPlain,
    decode_needed,
    nal_headers,
    needed,
    picture_kind,
)
from harness.data.video import _decoded_by_decord, decode_frames
from harness.errors import ClipError


def spread(frame_count):
    return tuple(frame_count * step // 8 for step in range(8))


def middle(frame_count):
    return (frame_count // 2,)


def last_first(frame_count):
    return (frame_count - 1, 0)


def as_nonlocal(frame_count):
    return tuple((2 * step + 1) * frame_count // 16 for step in range(8))


def anyhow(frame_count):
    return tuple(np.random.default_rng(frame_count).integers(0, frame_count, 8).tolist())


def test_frames_are_decords(clip_path, decord, subtests):
    data = clip_path.read_bytes()
    for choose in (spread, middle, last_first, as_nonlocal, anyhow):
        with subtests.test(choose.__name__):
            expected = np.stack(_decoded_by_decord(data, choose))
            np.testing.assert_array_equal(np.stack(decode_frames(clip_path, choose)), expected)
            found = decode_needed(data, choose)
            if found is not None:
                np.testing.assert_array_equal(np.stack(found), expected)


@pytest.mark.parametrize(
    ("name", "options", "is_plain"),
    [
        ("a.mp4", {"bf": "3"}, True),
        ("a.mkv", {"bf": "2"}, True),
        ("sound.mp4", {"bf": "2", "has_audio": True}, True),
        ("variable.mp4", {"bf": "2", "is_variable": True}, True),
        ("tff.mp4", {"x264-params": "tff=1"}, False),
        ("a.avi", {"codec": "mpeg4"}, False),
        ("h264.avi", {}, False),
        ("deep.mp4", {"pixels": "yuv444p"}, False),
        ("open.mp4", {"bf": "3", "x264-params": "open-gop=1:keyint=12:scenecut=0"}, False),
        ("refresh.mp4", {"x264-params": "intra-refresh=1:keyint=12"}, False),
    ],
)
def test_what_is_plain_is_decoded_here(tmp_path, write_clip, name, options, is_plain):
    data = write_clip(tmp_path / name, 30, **options).read_bytes()
    assert (decode_needed(data, spread) is not None) is is_plain


def test_a_rotated_clip_is_not_plain(rotated_clip):
    assert decode_needed(rotated_clip.read_bytes(), middle) is None


def test_half_of_a_clip_with_b_frames_is_not_decoded(tmp_path, write_clip):
    path = write_clip(tmp_path / "b.mp4", 120, bf="3", **{"x264-params": "b-adapt=0:scenecut=0"})
    with av.open(str(path)) as container:
        coded = skipping.coded_from_container(container)
    wanted = {sorted(coded.times)[index] for index in spread(120)}
    kept = [packet for group in needed(coded, wanted) for packet in group]
    assert len(kept) < 0.6 * len(coded.packets)
    assert wanted <= {packet.pts for packet in kept}


def test_groups_without_a_wanted_frame_are_left_out(tmp_path, write_clip):
    path = write_clip(tmp_path / "g.mp4", 60, bf="0", g="10")
    with av.open(str(path)) as container:
        coded = skipping.coded_from_container(container)
    (group,) = needed(coded, {sorted(coded.times)[25]})
    assert len(group) == 6


def test_damage_is_left_to_decord(tmp_path, write_clip):
    data = bytearray(write_clip(tmp_path / "clip.mp4", 60, bf="2", g="12").read_bytes())
    middle_byte = len(data) // 2
    data[middle_byte : middle_byte + 200] = bytes(200)
    assert decode_needed(bytes(data), lambda count: tuple(range(count))) is None


class Context(SimpleNamespace):
    """A decoder of 32 x 16 pixels that gives one picture and takes over its size."""

    def decode(self, packet):
        self.width, self.height = self.picture.width, self.picture.height
        return [self.picture]

    def flush_buffers(self):
        pass


def decoded(**picture):
    plain = {"pts": 0, "is_corrupt": False, "interlaced_frame": False, "rotation": 0}
    size = {"width": 32, "height": 16, "format": SimpleNamespace(name="gray")}
    context = Context(width=32, height=16, picture=SimpleNamespace(**plain | size | picture))
    coded = Coded([b""], [0], [Kind(starts=True, is_disposable=False)])
    return skipping._decoded(SimpleNamespace(codec_context=context), coded, {0}, True)


@pytest.mark.parametrize(
    "picture",
    [
        {"pts": -1, "is_corrupt": True},
        {"width": 64, "format": SimpleNamespace(name="yuv420p")},
        {"interlaced_frame": True, "format": SimpleNamespace(name="yuv420p")},
        {},
    ],
    ids=["damaged, needed by others", "of another size", "interlaced", "of another format"],
)
def test_pictures_that_are_not_plain_are_left_to_decord(picture):
    with pytest.raises(NotPlain):
        decoded(**picture)


def test_a_picture_that_nobody_asked_for_need_not_be_plain():
    assert decoded(pts=-1) == {}


def test_a_frame_that_does_not_come_is_left_to_decord(tmp_path, write_clip, monkeypatch):
    data = write_clip(tmp_path / "clip.mp4", 10).read_bytes()
    monkeypatch.setattr(skipping, "_decoded", lambda *args: {})
    assert decode_needed(data, middle) is None


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"\0\0\0\x09\x65", b"\0\0\0\x01\x65\0"])
def test_lengths_that_do_not_add_up_are_not_plain(data):
    with pytest.raises(NotPlain):
        nal_headers(data, 4)


def test_headers_are_found_behind_their_lengths():
    assert nal_headers(b"\0\x02\x65\x01\0\x01\x06", 2) == b"\x65\x06"


class Packet(bytes):
    pts, is_discard, is_corrupt = 0, False, False
    size = property(len)
    is_keyframe = property(lambda self: self[4] & 31 == 5)


class Container:
    """One H.264 stream whose lengths take four bytes, and the packets given."""

    def __init__(self, *packets):
        self.packets = packets
        context = SimpleNamespace(name="h264", extradata=b"\1\0\0\0\xff\0\0")
        self.streams = SimpleNamespace(video=[SimpleNamespace(codec_context=context)])

    def demux(self, stream):
        return iter(self.packets)


def test_packets_are_told_with_their_times_and_kinds():
    start, end, behind = Packet(b"\0\0\0\x01\x65"), Packet(), Packet(b"\0\0\0\x01\x01")
    behind.pts = 7
    coded = skipping.coded_from_container(Container(start, behind, end))
    assert coded == ([start, behind], [0, 7], [(True, False), (False, True)])


@pytest.mark.parametrize(
    ("attribute", "value"), [("pts", None), ("is_discard", True), ("is_corrupt", True)]
)
def test_packets_that_say_odd_things_are_not_plain(attribute, value):
    packet = Packet(b"\0\0\0\x01\x65")
    setattr(packet, attribute, value)
    with pytest.raises(NotPlain):
        skipping.coded_from_container(Container(packet))


def test_a_key_frame_that_starts_no_closed_group_is_not_plain(monkeypatch):
    packets = Packet(b"\0\0\0\x01\x65"), Packet(b"\0\0\0\x01\x41")
    packets[1].pts = 1
    assert len(skipping.coded_from_container(Container(*packets)).kinds) == 2
    monkeypatch.setattr(Packet, "is_keyframe", True)
    with pytest.raises(NotPlain):
        skipping.coded_from_container(Container(*packets))


def test_packets_of_the_same_time_are_not_plain():
    with pytest.raises(NotPlain):
        skipping.coded_from_container(Container(*2 * [Packet(b"\0\0\0\x01\x65")]))


@pytest.mark.parametrize("header", [b"\x62", b"\x06"])
def test_packets_without_whole_slices_are_not_plain(header):
    with pytest.raises(NotPlain):
        picture_kind(header)


@pytest.mark.parametrize(
    ("headers", "starts", "is_disposable"),
    [
        (b"\x65", True, False),
        (b"\x41", False, False),
        (b"\x01", False, True),
        (b"\x06\x01\x01", False, True),
        (b"\x01\x41", False, False),
        (b"\x08\x01", False, False),
    ],
)
def test_what_nothing_refers_to_is_told_by_its_headers(headers, starts, is_disposable):
    data = b"".join(b"\0\0\0\x01" + bytes([header]) for header in headers)
    assert nal_headers(data, 4) == headers
    assert picture_kind(headers) == (starts, is_disposable)


def test_the_choosers_refusal_is_told(tmp_path, write_clip):
    def refuse(count):
        raise ClipError("no")

    data = write_clip(tmp_path / "clip.mp4", 3).read_bytes()
    with pytest.raises(ClipError, match="no"):
        decode_needed(data, refuse)


def test_a_stream_that_starts_in_the_middle_is_not_plain(tmp_path, write_clip, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", 5)
    monkeypatch.setattr(skipping, "picture_kind", lambda headers: Kind(False, False))
    assert decode_needed(path.read_bytes(), middle) is None


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_stream_that_does_not_say_how_far_it_is_reordered_loses_no_frame(
    tmp_path, write_clip, decord, name
):
    path = write_clip(tmp_path / name, 90, bf="3", **{"x264-params": "b-adapt=0:scenecut=0"})
    with av.open(str(path)) as container:
        extra = bytes(container.streams.video[0].codec_context.extradata)
    parameters = extra[8 : 8 + int.from_bytes(extra[6:8], "big")]
    data = path.read_bytes()
    assert data.count(parameters) == 1
    silent = data.replace(parameters, without_usability(parameters))
    expected = np.stack(_decoded_by_decord(silent, range))
    found = decode_needed(silent, range)
    assert found is not None
    np.testing.assert_array_equal(np.stack(found), expected)


def without_usability(parameters):
    """Return a sequence parameter set of Main or High, less its usability information (VUI)."""
    raw = parameters.replace(b"\0\0\x03", b"\0\0")
    bits = "".join(f"{byte:08b}" for byte in raw)
    position = 32

    def unsigned():
        nonlocal position
        zeros = bits.index("1", position) - position
        position += 2 * zeros + 1
        return int(bits[position - zeros - 1 : position], 2) - 1

    def flag():
        nonlocal position
        position += 1
        return bits[position - 1] == "1"

    unsigned()
    if raw[1] >= 100:
        assert unsigned() == 1, "4:2:0"
        unsigned(), unsigned(), flag()
        assert not flag(), "scaling matrix"
    unsigned()
    order_type = unsigned()
    assert order_type != 1
    if order_type == 0:
        unsigned()
    unsigned(), flag(), unsigned(), unsigned()
    assert flag(), "frames only"
    flag()
    if flag():
        unsigned(), unsigned(), unsigned(), unsigned()
    assert flag(), "it has usability information"
    kept = (bits[: position - 1] + "01").ljust(8 * len(parameters), "0")
    return int(kept, 2).to_bytes(len(parameters), "big")
