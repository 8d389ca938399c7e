"""The two scripts that run as children, in this process, for their details."""

import io
import os
import struct
import sys
import threading
import types

import numpy as np
import pytest

from harness.host import command_guard
from harness.runtimes.ascend import infer_worker
from harness.runtimes.ascend.infer_worker import read_frame, write_frame


class FakeSession2023:
    freed: tuple[str, ...] = ()
    gear = 0

    def __init__(self, device, path):
        self.device, self.path = device, path

    def get_inputs(self):
        return [types.SimpleNamespace(name="video", shape=[2, 3], realsize=24)]

    def get_outputs(self):
        return [types.SimpleNamespace(name="class", shape=[2, 3], realsize=24)]

    def set_dynamic_batchsize(self, gear):
        self.gear = gear

    def infer(self, arrays, mode):
        assert mode == ("dymbatch" if self.gear else "static")
        return [array * 2 for array in arrays]

    def finalize(self):
        type(self).freed = ("finalize",)


class FakeSession2025(FakeSession2023):
    def free_resource(self):
        type(self).freed = ("free_resource",)

    @staticmethod
    def finalize():
        FakeSession2025.freed = (*FakeSession2025.freed, "finalize")


class Replies(io.BytesIO):
    def close(self):
        """Stay readable."""


@pytest.fixture
def replies(monkeypatch):
    """The worker with its pipes replaced by buffers."""
    made = Replies()
    monkeypatch.setattr(os, "dup", lambda fd: fd)
    monkeypatch.setattr(os, "dup2", lambda one, two: two)
    monkeypatch.setattr(os, "fdopen", lambda fd, mode: made)
    monkeypatch.setattr(sys, "argv", ["worker", "/x/model.om", "1", "0"])
    monkeypatch.setattr(sys, "path", ["first", *sys.path])
    return made


def install(monkeypatch, session):
    names = ("ais_bench", "ais_bench.infer", "ais_bench.infer.interface")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    if session is not None:
        monkeypatch.setattr(sys.modules[names[2]], "InferSession", session, raising=False)


@pytest.mark.parametrize("gear", ["0", "2"])
@pytest.mark.parametrize(
    ("session", "freed"),
    [(FakeSession2023, ("finalize",)), (FakeSession2025, ("free_resource", "finalize"))],
)
def test_serves_until_the_other_end_closes(monkeypatch, replies, session, freed, gear):
    install(monkeypatch, session)
    sys.argv[3] = gear
    asked = io.BytesIO()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_frame(asked, {}, [array, array.T])
    asked.seek(0)
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=asked))
    assert infer_worker.main() == 0
    replies.seek(0)
    hello, none = read_frame(replies, np)
    _, (output, turned) = read_frame(replies, np)
    assert (hello["inputs"][0]["bytes"], hello["outputs"][0]["name"], none) == (24, "class", [])
    np.testing.assert_array_equal(output, array * 2)
    np.testing.assert_array_equal(turned, array.T * 2)
    assert session.freed == freed
    assert sys.path[0] != "first"


def test_says_what_cannot_be_imported(monkeypatch, replies):
    install(monkeypatch, None)
    assert infer_worker.main() == infer_worker.INFER_SESSION_MISSING_RC
    replies.seek(0)
    assert "cannot import name 'InferSession'" in read_frame(replies, np)[0]["missing"]


def test_a_frame_that_is_cut_off_is_the_end():
    for content, read in (
        (b"\1\0", "2 bytes of 4"),
        (struct.pack("<I", 9), "0 bytes of 9"),
        (
            struct.pack("<I", 60) + b'{"arrays": [{"dtype": "float32", "shape": [2]}]}',
            "48 bytes of 60",
        ),
    ):
        with pytest.raises(EOFError, match=read):
            read_frame(io.BytesIO(content), np)


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["/bin/sh", "-c", "exit 7"], 7),
        (["/bin/sh", "-c", "kill -9 $$"], 137),
        (["/no/such/file"], 127),
    ],
)
def test_the_guard_passes_the_status_on_and_kills_with_its_parent(monkeypatch, argv, status):
    killed = threading.Event()
    monkeypatch.setattr(os, "killpg", lambda group, number: killed.set())
    ours, theirs = os.pipe()
    monkeypatch.setattr(sys, "argv", ["guard", str(ours), *argv])
    assert command_guard.main() == status
    os.close(theirs)
    assert killed.wait(5.0 if status != 127 else 0.0) is (status != 127)
    os.close(ours)
