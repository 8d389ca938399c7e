"""Parts that hosts have sent, kept for a rerun."""

import contextlib
import os
import time

import numpy as np
import pytest

from harness.clips import Predictions
from harness.errors import RunError
from harness.farm.kept import kept_parts
from harness.farm.orders import Part, Shard
from harness.record.npz import npz_from_predictions

ROWS = npz_from_predictions(Predictions(("a",), np.zeros((1, 1, 2), np.float32)))
PART = Part("first", ROWS, ("a note",), {"onnx": "ab"})
SHARDS = [Shard("predictions", number, 2) for number in (0, 1)]
HEAD = b'{"host": "first", "notes": [], "subjects": {}, "decoder": ""}\n'


class Killed(BaseException):
    pass


def left_by_another(cache):
    """Leave both parts as a run does that is killed; return their files."""
    with contextlib.suppress(Killed), kept_parts(cache, {"cell": "c"}, {}) as kept:
        for shard in SHARDS:
            kept.keep(shard, PART)
        raise Killed
    return sorted(cache.rglob("*.part"))


def there(cache):
    with kept_parts(cache, {"cell": "c"}, {}) as kept:
        return [kept.part(shard) for shard in SHARDS]


def test_parts_are_there_until_a_run_has_used_them(tmp_path):
    left_by_another(tmp_path)
    assert there(tmp_path) == [PART, PART]
    assert there(tmp_path) == [None, None]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON\n" + ROWS,
        b"[]\n" + ROWS,
        b'{"host": "first", "notes": 3, "subjects": {}}\n' + ROWS,
        b'{"host": "first", "notes": [], "subjects": "ab"}\n' + ROWS,
        b'{"host": "first", "notes": []}\n' + ROWS,
        HEAD + ROWS[:-9],
    ],
)
def test_a_damaged_part_is_asked_for_again(tmp_path, content):
    _, path = left_by_another(tmp_path)
    path.write_bytes(content)
    assert there(tmp_path) == [PART, None]


def test_a_part_of_the_day_before_yesterday_is_asked_for_again(tmp_path):
    path, _ = left_by_another(tmp_path)
    os.utime(path, (time.time() - 2 * 86400,) * 2)
    assert there(tmp_path) == [None, PART]


def test_two_runs_of_one_check_do_not_take_each_others_parts_away(tmp_path):
    with kept_parts(tmp_path, {"cell": "c"}, {}) as ours:
        ours.keep(SHARDS[0], PART)
        assert there(tmp_path) == [None, None]
        assert ours.part(SHARDS[0]) == PART


def test_a_cache_that_cannot_be_written_keeps_parts_for_the_run(tmp_path):
    (tmp_path / "farm").touch()
    with kept_parts(tmp_path, {"cell": "c"}, {}) as kept:
        kept.keep(SHARDS[0], PART)
        assert kept.part(SHARDS[0]) == PART


def test_a_part_that_cannot_be_kept_is_an_error_that_says_what_to_do(tmp_path):
    with kept_parts(tmp_path, {"cell": "c"}, {}) as kept:
        kept.folder.rmdir()
        with pytest.raises(RunError, match=r"cannot keep predictions in .*; make room"):
            kept.keep(SHARDS[0], PART)


OF_TORCH = Shard("reference", 0, 2)


def of(host, decoder=""):
    return Part(host, ROWS, (), {}, decoder)


def test_what_one_check_has_taken_stays_as_it_was_when_another_host_makes_it_again(tmp_path):
    hosts = ("first", "second")
    with (
        kept_parts(tmp_path, {"cell": "a"}, {}, hosts) as ours,
        kept_parts(tmp_path, {"cell": "b"}, {}, hosts) as others,
    ):
        ours.keep(OF_TORCH, of("first"))
        others.keep(OF_TORCH, of("second"))
        assert ours.part(OF_TORCH).host == "first"
        with kept_parts(tmp_path, {"cell": "c"}, {}, hosts) as third:
            assert third.part(OF_TORCH).host == "second"


@pytest.mark.parametrize("part", [of("gone"), of("first", "gone")])
def test_a_part_of_a_host_that_does_not_take_part_is_not_taken_over(tmp_path, part):
    with kept_parts(tmp_path, {"cell": "a"}, {}, ("first",)) as kept:
        kept.keep(OF_TORCH, part)
    with kept_parts(tmp_path, {"cell": "b"}, {}, ("first",)) as kept:
        assert kept.part(OF_TORCH) is None
    with kept_parts(tmp_path, {"cell": "b"}, {"other": "weights"}, ("first", "gone")) as kept:
        assert kept.part(OF_TORCH) is None
    with kept_parts(tmp_path, {"cell": "b"}, {}, ("first", "gone")) as kept:
        assert kept.part(OF_TORCH) == part


def test_chips_share_nothing_and_a_damaged_part_is_replaced(tmp_path):
    with kept_parts(tmp_path, {"cell": "a"}, {}, ("first",)) as kept:
        kept.keep(SHARDS[0], PART)
        kept.keep(OF_TORCH, of("first"))
    (shared,) = tmp_path.rglob("reference-*/*.part")
    shared.write_bytes(b"")
    with kept_parts(tmp_path, {"cell": "b"}, {}, ("first",)) as kept:
        assert [kept.part(SHARDS[0]), kept.part(OF_TORCH)] == [None, None]
        kept.keep(OF_TORCH, of("first"))
    with kept_parts(tmp_path, {"cell": "c"}, {}, ("first",)) as kept:
        assert kept.part(OF_TORCH) == of("first")


def test_parts_of_pytorch_that_nobody_asks_for_are_swept_after_a_day(tmp_path):
    hosts = ("first",)
    with kept_parts(tmp_path, {"cell": "a"}, {"model": "a"}, hosts) as kept:
        kept.keep(OF_TORCH, of("first"))
    (path,) = tmp_path.rglob("*.part")
    with kept_parts(tmp_path, {"cell": "b"}, {"model": "b"}, hosts):
        assert path.exists()
    os.utime(path, (time.time() - 2 * 86400,) * 2)
    with kept_parts(tmp_path, {"cell": "b"}, {"model": "b"}, hosts):
        assert not path.exists()
