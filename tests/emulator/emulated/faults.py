"""The failures that EMULATOR_FAULT enables, by name."""

import os
import sys
import time

ATC = {
    "atc_oom": "killed by the kernel, rc 137, no final line",
    "atc_hang": "never ends",
    "atc_no_file": "prints success, writes nothing",
    "atc_stale": "prints success, leaves the old file in place",
    "atc_empty_file": "prints success, the file is empty",
    "atc_suffix": "writes <output>_linux_x86_64.om",
    "atc_no_success_line": "rc 0, never prints success",
    "atc_rc_after_success": "prints success, rc 1",
    "atc_unknown": "fails and prints no code",
    "atc_E19010": "no parser for an operator",
    "atc_EZ3002": "no kernel on this chip",
    "atc_EC0010": "a Python module is missing",
    "atc_int64": "an index operator got int64",
    "atc_inner": "an internal error beside one that names the cause",
    "atc_only_inner": "an internal error alone",
    "atc_host_env_os": "the environment of an IDE leaks",
    "atc_missing_hal": "libascend_hal.so is missing",
    "atc_missing_library": "another library is missing",
    "atc_disk_full": "no space for the file",
    "atc_ai_cpu": "softmax is built for the AI CPU",
    "atc_wrong_soc": "the model is built for another chip than asked for",
    "atc_lost_gear": "of several batch sizes the last is not built",
    "atc_warning": "success with a warning block",
}
NPU_SMI = {
    "smi_8005": "dcmi cannot be initialised",
    "smi_8020": "the device is in use",
    "smi_garbage": "prints no table",
    "smi_hang": "never ends",
    "smi_rc": "a table, and rc 1",
    "smi_alarm": "health Alarm",
    "smi_hot": "95 C",
    "smi_empty_record": "the queries of the first chip fail: no name, OK, zeros",
    "smi_lost_line": "the second line of the first chip is missing",
    "smi_hang_loaded": "never ends while a model is loaded, or was seconds ago",
    "smi_no_power": "tells no power at all",
    "smi_leak": "the memory of a chip grows with each question",
    "smi_busy": "another process, AICore 80 %",
}
AIS_BENCH = {
    "bench_missing": "ais_bench is not installed",
    "bench_no_interface": "python -m works, InferSession cannot be imported",
    "bench_old_aclruntime": "aclruntime is too old: run_mode becomes tensor",
    "bench_no_version": "2025: no pkg_resources, so no version of aclruntime: run_mode becomes tensor",
    "bench_device_busy": "ACL 507033",
    "bench_load_failed": "the model does not load, as on a small vNPU slice",
    "bench_soc": "EE1001: the model is for another chip",
    "bench_opp": "E19999: the model is from another OPP",
    "bench_crash": "SIGSEGV after the first batch",
    "bench_hang": "hangs in the first batch",
    "bench_hang_late": "hangs after the first batch",
    "bench_device_error": "the device fails in the first batch",
    "bench_disk_full": "no space for the outputs",
    "bench_missing_output": "rc 0, an output is missing",
    "bench_short_output": "rc 0, an output is truncated",
    "bench_empty_output": "rc 0, an output is empty",
    "bench_wrong_shape": "rc 0, an output has the wrong shape",
    "bench_duplicate_output": "rc 0, two samples share an output",
    "bench_duplicate_entry": "rc 0, one sample is listed twice",
    "bench_lost_sample": "rc 0, a sample is missing from filesinfo",
    "bench_nan": "rc 0, outputs are NaN",
    "bench_summary_missing": "rc 0, no summary",
    "bench_summary_truncated": "rc 0, the summary is truncated",
    "bench_extra_file": "an extra file in the folder of the outputs",
    "bench_times_lost": "rc 0, fewer times than executions",
    "bench_time_nan": "rc 0, a time is NaN",
    "bench_no_dump": "rc 0, no dump is written, as in a container",
    "bench_dump_truncated": "rc 0, the last dump is half a file",
    "bench_other_gear": "of several batch sizes the smallest runs, whichever was set",
    "bench_slow_load": "takes 2 s more to load a model",
    "bench_slowing": "each model that is loaded runs slower than the one before",
    "bench_save_out": "the outputs cannot be split",
}
KNOWN = {**ATC, **NPU_SMI, **AIS_BENCH}


def has_fault(name):
    """Whether EMULATOR_FAULT asks for the failure ``name``."""
    asked = [word for word in os.environ.get("EMULATOR_FAULT", "").split(",") if word]
    unknown = [word for word in [*asked, name] if word not in KNOWN]
    if unknown:
        sys.exit(f"emulator: unknown EMULATOR_FAULT {unknown[0]}; known: {', '.join(KNOWN)}")
    return name in asked


def has_fault_on(name, number):
    """Whether chip ``number`` has the fault; EMULATOR_FAULT_CHIP limits faults to one chip."""
    return has_fault(name) and os.environ.get("EMULATOR_FAULT_CHIP", str(number)) == str(number)


def hang():
    """Sleep until killed."""
    while True:
        time.sleep(60)
