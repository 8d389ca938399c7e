import pytest

from harness.data.containers import container_format, missing_bytes


@pytest.fixture(scope="session", params=["mp4", "faststart.mp4", "mkv", "avi"])
def video(request, tmp_path_factory, write_clip):
    path = tmp_path_factory.mktemp("containers") / f"clip.{request.param}"
    codec = "mpeg4" if path.suffix == ".avi" else "h264"
    options = {} if codec == "mpeg4" else {"bf": "2"}
    if request.param == "faststart.mp4":
        options["movflags"] = "faststart"
    return write_clip(path, 30, codec=codec, **options).read_bytes()


def test_a_whole_file_misses_nothing(video):
    assert missing_bytes(video) == 0


def test_the_usual_formats_are_known_by_ffmpegs_names(video, request):
    suffix = request.node.callspec.params["video"].rpartition(".")[-1]
    assert container_format(video) == {"mp4": "mp4", "mkv": "matroska", "avi": None}[suffix]


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9, 0.999])
def test_a_cut_file_misses_what_was_cut(video, kept):
    assert missing_bytes(video[: int(len(video) * kept)]) > 0


def test_filling_behind_the_end_is_not_a_cut(video):
    assert missing_bytes(video + bytes(100)) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1a\x45\xdf\xa3",
        b"neither one nor the other",
        b"RIFF\xff\xff\xff\xffAVI ",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff live stream",
        b"\x1a\x45\xdf\xa3\x80\xec\x83 no segment here",
        b"\x00\x00\x00\x00mdat to the end of the file",
        b"\x00\x00\x00\x05free no such size",
    ],
)
def test_a_file_that_does_not_say_misses_nothing(data):
    assert missing_bytes(data) == 0


def test_a_large_box_says_its_size_in_eight_bytes():
    data = b"\x00\x00\x00\x01mdat" + (2**33).to_bytes(8, "big")
    assert missing_bytes(data) == 2**33 - len(data)


def test_a_segment_says_its_size_in_up_to_eight_bytes():
    data = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + (1000).to_bytes(7, "big")
    assert missing_bytes(data) == 1000
