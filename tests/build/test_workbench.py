import pytest

from harness.build.workbench import Workbench
from harness.data.datasets import motion8
from harness.device import DeviceState, Presence
from harness.errors import DeviceAbsent, DeviceBroken
from harness.host.locks import exclusive, try_exclusive
from harness.host.progress import Progress
from harness.registry import device_spec
from harness.spec import Cell
from harness.testing import FakeDevice

CELL = Cell("nonlocal_tiny", "cuda", 4)


@pytest.fixture
def bench_of(clean, make_suite, cache):
    def bench(state, name="cuda"):
        double = FakeDevice(device_spec(name), dict, state=state)
        return make_suite(cache, {name: double}).bench

    return bench


def test_everything_slow_is_done_once(bench_of, monkeypatch):
    bench = bench_of(DeviceState(Presence.PRESENT, "a double", {}, ("cuda",)))
    double, probes = bench.device("cuda"), []
    monkeypatch.setattr(double, "probe", lambda: probes.append(1) or double.state)
    assert bench.state("cuda") is bench.state("cuda")
    assert len(probes) == 1
    assert bench.weights("nonlocal_tiny") is bench.weights("nonlocal_tiny")


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        (DeviceState(Presence.ABSENT, "no card"), DeviceAbsent, "cuda is not on this machine: no"),
        (DeviceState(Presence.BROKEN, "it hangs"), DeviceBroken, "cuda does not work: it hangs"),
        (
            DeviceState(Presence.PRESENT, "there"),
            DeviceBroken,
            "site.toml allows none of its units",
        ),
    ],
)
def test_only_a_present_device_is_given(bench_of, state, error, said):
    with pytest.raises(error, match=said):
        bench_of(state).present_device("cuda")


def test_a_device_model_does_not_depend_on_how_warm_a_chip_is(bench_of, in_process):
    facts = {"cann": "7.0", "chip0": "41 C, load 0 %", "chip1": "40 C, load 3 %"}
    units = ("chip0", "chip1")
    cool = bench_of(DeviceState(Presence.PRESENT, "", facts, units)).device_model(CELL)
    facts = {"cann": "7.0", "chip0": "77 C, load 99 %", "chip1": "76 C, load 98 %"}
    warm = bench_of(DeviceState(Presence.PRESENT, "", facts, units[::-1])).device_model(CELL)
    assert warm.artifact.path == cool.artifact.path
    newer = bench_of(DeviceState(Presence.PRESENT, "", facts | {"cann": "8.0"}, units))
    assert newer.device_model(CELL).artifact.path != cool.artifact.path
    machine = cool.artifact.provenance["inputs"]["machine"]
    assert machine.keys() == {"cann", "cpu.model", "cpu.isa"}


def test_the_clips_of_a_model_are_those_of_its_data_set(clean):
    suite, _ = clean
    bench = Workbench(suite.bench.site, suite.run.root, Progress())
    assert bench.clip_set("nonlocal_tiny") is motion8()


def test_a_free_chip_is_taken(bench_of):
    bench = bench_of(DeviceState(Presence.PRESENT, "", {}, ("chip0", "chip1")))
    locks = bench.site.lock_dir
    with exclusive("chip0", locks), bench.chip("cuda") as found:
        assert found is bench.device("cuda")
        assert (locks / "chip1.lock.owner").exists()
    assert not (locks / "chip1.lock.owner").exists()


@pytest.mark.parametrize("is_alone", [True, False])
def test_only_who_is_timed_has_the_processor_alone(bench_of, is_alone):
    bench = bench_of(DeviceState(Presence.PRESENT, "", {}, ("cpu",)))
    with bench.chip("cpu", is_alone=is_alone):
        assert (bench.site.lock_dir / "cpu.lock.owner").exists() is is_alone


def test_nobody_is_timed_beside_others(bench_of):
    bench = bench_of(DeviceState(Presence.PRESENT, "", {}, ("cpu",)), "cpu")
    with bench.beside_others(), try_exclusive("cpu", bench.site.lock_dir) as is_mine:
        assert not is_mine


def test_an_ascend_device_is_bound_to_the_chip_that_is_held(clean, make_suite, cache):
    bench = make_suite(cache).bench
    bench.state = lambda name: DeviceState(Presence.PRESENT, "", {}, ("davinci3",))
    with bench.chip("ascend310p") as found:
        assert found.unit_id == "davinci3"
        assert found.tools.locks == bench.site.lock_dir
        assert (bench.site.lock_dir / "davinci3.lock.owner").exists()
