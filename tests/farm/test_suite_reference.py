"""PyTorch's shards serve every cell that would get the same ones, and no record hides which host made them."""

import dataclasses
import io
import threading
import time

import pytest

from harness.contract.thresholds import thresholds_from_file
from harness.decide.rejudge import judged_today
from harness.errors import RunError
from harness.farm import host
from harness.farm.calls import PYTORCH
from harness.farm.kept import kept_parts
from harness.record.npz import predictions_from_npz
from harness.record.stints import stints_of
from harness.spec import Cell, Status
from tests.farm.local import HOSTS, facts, hosts_of

CELLS = [Cell("nonlocal_tiny", "cpu", batch) for batch in (4, 1)]


@pytest.fixture
def suite(farm, tmp_path):
    """A suite on two hosts under a contract with two batch sizes."""
    plain, _ = farm()
    line = next(one for one in plain.contract.splitlines() if one.startswith(b"cpu.throughput.bs4"))
    other = line.replace(b"bs4", b"bs1", 1)
    contract = plain.contract.replace(line, line + b"\n" + other)
    path = tmp_path / "thresholds.toml"
    path.write_bytes(contract)
    return dataclasses.replace(plain, thresholds=thresholds_from_file(path), contract=contract)


def torch_calls(suite):
    return [node for name, node in suite.cluster.calls if name == "refer"]


def checked(suite, cell):
    record = suite.check(cell, "accuracy")
    suite.run.append(record)
    return record


def hosts_of_torch(suite, record):
    stints = stints_of(record, suite.run)
    return {stint.host for stint in stints if stint.what.endswith(": reference")}


def scores(run, record):
    return predictions_from_npz(io.BytesIO(run.read(record, "reference"))).scores.tobytes()


def test_two_batch_sizes_share_them_and_a_host_that_is_thrown_out_takes_both_along(suite, clean):
    records = [checked(suite, cell) for cell in CELLS]
    assert len(torch_calls(suite)) == 4
    one_machine, expected = clean
    for record in records:
        assert record.verdict.status is Status.PASS, record.verdict.reason
        assert scores(suite.run, record) == scores(one_machine.run, expected["accuracy"])
        assert hosts_of_torch(suite, record) == {"first", "second"}
    _, again, _ = judged_today(suite.run, suite.thresholds, ["first"])
    assert [one.verdict.status for one in again] == [Status.INVALID, Status.INVALID]


def test_a_host_that_no_longer_takes_part_gives_nothing_to_later_cells(suite):
    checked(suite, CELLS[0])
    del suite.cluster.answers["n1"]
    record = checked(suite, CELLS[1])
    assert hosts_of_torch(suite, record) == {"second"}
    assert len(torch_calls(suite)) == 4 + 2


@pytest.mark.parametrize("change", [{"machine": {"cpu": "other"}}, {"threads": {"cpu": "9"}}])
def test_hosts_on_which_pytorch_rounds_otherwise_share_nothing(suite, change):
    checked(suite, CELLS[0])
    suite.hosts.known.update(
        {node: dataclasses.replace(one, **change) for node, one in HOSTS.items()}
    )
    record = checked(suite, CELLS[1])
    assert record.verdict.status is Status.PASS, record.verdict.reason
    assert len(torch_calls(suite)) == 4 + 4


def test_pytorch_runs_where_most_hosts_have_as_many_threads():
    two, four = {"cpu.usable": "2"}, {"cpu.usable": "4"}
    answers = {
        name: dataclasses.replace(facts(name, cpu=(1, {})), threads=threads)
        for name, threads in (("a", two), ("b", four), ("c", four))
    }
    hosts = hosts_of(answers)
    at, _ = hosts.place("cpu")
    torch, _ = hosts.alike_in_threads(at)
    assert at.hosts == ("a", "b", "c")
    assert (torch.hosts, torch.resources) == (("b", "c"), {PYTORCH: 1.0})


def test_what_a_failed_check_had_of_pytorch_serves_its_rerun_and_other_cells(suite, monkeypatch):

    def broken(*args):
        raise RunError("the chip is lost")

    with monkeypatch.context() as patch:
        patch.setattr(host, "predict", broken)
        assert checked(suite, CELLS[0]).verdict.status is Status.ERROR
    made = len(torch_calls(suite))
    assert made > 0
    for cell in CELLS:
        assert suite.check(cell, "accuracy").verdict.status is Status.PASS
    assert len(torch_calls(suite)) == made == 4


def test_while_another_cell_has_pytorch_run_the_chips_go_on(suite, monkeypatch):
    held, keys = threading.Event(), []

    def noted(cache, key, reference, hosts):
        keys.append((cache, {"other": "cell"}, reference, hosts))
        return kept_parts(cache, key, reference, hosts)

    monkeypatch.setattr("harness.farm.suite.kept_parts", noted)
    checked(suite, CELLS[0])
    with kept_parts(*keys[0]) as kept, kept.reference_turn() as is_ours:
        assert is_ours
        records = []
        thread = threading.Thread(target=lambda: records.append(suite.check(CELLS[1], "accuracy")))
        thread.start()
        end_s = time.monotonic() + 60.0
        while predicted(suite) < 8 and time.monotonic() < end_s:
            held.wait(0.05)
        assert predicted(suite) == 8
        held.wait(0.3)
        assert records == []
    thread.join(60.0)
    assert records[0].verdict.status is Status.PASS
    assert len(torch_calls(suite)) == 4


def predicted(suite):
    return sum(name == "predict" for name, _ in suite.cluster.calls)
