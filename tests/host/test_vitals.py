from harness.host.vitals import host_vitals, resident_mb
from harness.timings import Vitals


def write(root, values):
    for name, text in values.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


PACKAGES = {
    "class/powercap/intel-rapl:0/name": "package-0",
    "class/powercap/intel-rapl:0/energy_uj": 3_000_000,
    # A part of the package, which has counted it already.
    "class/powercap/intel-rapl:0:0/name": "core",
    "class/powercap/intel-rapl:0:0/energy_uj": 2_000_000,
    "class/powercap/intel-rapl:1/name": "package-1",
    "class/powercap/intel-rapl:1/energy_uj": 4_000_000,
}


def test_a_host_tells_heat_clock_and_energy(tmp_path):
    write(tmp_path, PACKAGES)
    cpus = {f"devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq": 2_000_000 + n for n in (0, 2)}
    zones = {
        "class/thermal/thermal_zone0/type": "acpitz",
        "class/thermal/thermal_zone0/temp": 90_000,
        "class/thermal/thermal_zone1/type": "x86_pkg_temp",
        "class/thermal/thermal_zone1/temp": 61_000,
    }
    write(tmp_path, cpus | zones)
    assert host_vitals(tmp_path) == Vitals(
        temperature_c=61.0, energy_j=7.0, power_of="processors", frequency_mhz=2000.001
    )


def test_a_counter_that_only_root_may_read_gives_no_energy(tmp_path):
    write(tmp_path, PACKAGES)
    (tmp_path / "class/powercap/intel-rapl:1/energy_uj").unlink()
    assert host_vitals(tmp_path) == Vitals()


def test_a_host_that_tells_nothing(tmp_path):
    assert host_vitals(tmp_path / "nothing") == Vitals()
    assert 5.0 < resident_mb() < 1e5
