import dataclasses
import importlib

import numpy as np
import pytest

from harness.errors import RunError
from harness.runtimes.ascend.dump_file import dump_from_file


@pytest.fixture
def written(tmp_path, monkeypatch, emulator_environment):
    """Return a function that writes a dump as the emulator does."""
    monkeypatch.syspath_prepend(emulator_environment["PYTHONPATH"])
    dumps = importlib.import_module("emulated.dumps")

    def write(inputs, outputs, name="/c/Conv"):
        path = tmp_path / "Conv2D._c_Conv.3.1.1700000000000000"
        path.write_bytes(dumps.dump_bytes(name, inputs, outputs))
        return path

    return write


def test_reads_inputs_and_outputs_in_their_logical_shape(written):
    random = np.random.default_rng(0)
    image = random.normal(size=(2, 18, 3, 5)).astype(np.float16)
    clip = random.normal(size=(1, 3, 2, 4, 4)).astype(np.float32)
    matrix = random.normal(size=(3, 17, 33)).astype(np.float16)
    index = np.arange(7)
    path = written(
        [(image, "NC1HWC0"), (index, "ND")], [(clip, "NDC1HWC0"), (matrix, "FRACTAL_NZ")]
    )
    dump = dump_from_file(path)
    assert dump.op_name == "/c/Conv"
    read = [tensor.array() for tensor in (*dump.inputs, *dump.outputs)]
    for array, expected in zip(read, (image, index, clip, matrix), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype
    assert dump.inputs[0].shape == (2, 2, 3, 5, 16)


@pytest.mark.parametrize("keep", [0, 5, 8, 30, -1])
def test_a_truncated_file_is_an_error_and_never_an_array(written, keep):
    path = written([], [(np.ones((4, 4), np.float16), "ND")])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError, match=r"the dump Conv2D\._c_Conv\.3.* cannot be read"):
        dump_from_file(path)


def test_a_dump_has_tensors_and_their_bytes(written, tmp_path):
    (tmp_path / "empty").write_bytes(bytes(8))
    with pytest.raises(RunError, match="its header lists no tensor"):
        dump_from_file(tmp_path / "empty")
    (tensor,) = dump_from_file(written([], [(np.ones((4, 4), np.float16), "ND")])).outputs
    with pytest.raises(RunError, match=r"8 bytes do not hold the shape \(4, 4\)"):
        dataclasses.replace(tensor, nbytes=8).array()


def test_garbage_is_an_error(tmp_path):
    random = np.random.default_rng(5)
    for size in range(8, 200, 16):
        path = tmp_path / "dump"
        body = random.integers(0, 256, size).astype(np.uint8).tobytes()
        path.write_bytes(len(body).to_bytes(8, "little") + body)
        try:
            tensors = dump_from_file(path).outputs
        except RunError:
            continue
        assert all(tensor.offset + tensor.nbytes <= path.stat().st_size for tensor in tensors)


def test_bfloat16_and_an_unknown_dtype(written, monkeypatch):
    dumps = importlib.import_module("emulated.dumps")
    bits = np.array([0x3F80, 0xC000, 0x7F80], np.uint16)
    monkeypatch.setitem(dumps.DTYPES, "uint16", 27)
    (tensor,) = dump_from_file(written([], [(bits, "ND")])).outputs
    np.testing.assert_array_equal(tensor.array(), np.array([1.0, -2.0, np.inf], np.float32))
    monkeypatch.setitem(dumps.DTYPES, "uint16", 28)
    (tensor,) = dump_from_file(written([], [(bits, "ND")])).outputs
    with pytest.raises(RunError, match="cannot be read: data type 'type 28' not understood"):
        tensor.array()
