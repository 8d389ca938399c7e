"""Parts that hosts have sent, kept for a rerun."""

import pytest

from harness.farm.kept import KeptParts
from harness.farm.orders import Part

PART = Part("first", b"rows", ("a note",), {"onnx": "ab"})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON\nrows",
        b"[]\nrows",
        b'{"host": "first", "notes": 3, "subjects": {}}\nrows',
        b'{"host": "first", "notes": [], "subjects": "ab"}\nrows',
        b'{"host": "first", "notes": []}\nrows',
    ],
)
def test_a_damaged_part_is_asked_for_again(tmp_path, content):
    kept = KeptParts(tmp_path, {"cell": "c"})
    for number in (0, 1):
        kept.keep("predictions", number, PART)
    assert kept.parts("predictions") == {0: PART, 1: PART}
    (path,) = tmp_path.rglob("predictions-1.part")
    path.write_bytes(content)
    assert kept.parts("predictions") == {0: PART}
