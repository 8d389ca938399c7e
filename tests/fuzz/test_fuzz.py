"""Every reader takes or refuses whatever is in its file, within a gigabyte, and never hangs.

`benchmarks/fuzz.py` looks for longer.
"""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.mutations import changed
from tests.fuzz.readers import readers
from tests.limited import limited

EXAMPLES = 60
NAMES = [
    *(
        "thresholds",
        "thresholds of schema 1",
        "site",
        "clip list",
        "label map",
        "label map in JSON",
    ),
    *("manifest", "scanned list", "annotations", "clip", "raw frame", "run.json", "records.jsonl"),
    *("latencies", "starts", "soak", "onnx_file"),
    *("test result", "summary", "public key", "private key", "history", "baseline"),
    *("provenance", "crop journal", "crop store", "score journal", "lock note"),
    *(
        "ais_bench summary",
        "npu-smi table",
        "operator dump",
        "graph of an .om",
        "npz",
        "npy",
        "checkpoint",
    ),
]
# The same examples each time: a red names a fault that a person can run again.
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("readers"))


def test_every_reader_is_listed(table):
    assert sorted(table) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_takes_or_refuses_any_file(table, name):
    reader = table[name]
    content = reader.path.read_bytes()
    assert reader.outcome(content) == "taken"

    @SETTINGS
    @given(changed(content))
    def never_breaks(content):
        reader.outcome(content)

    limited(never_breaks, seconds=120)
