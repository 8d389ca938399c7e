"""Every known failure of the Ascend toolchain has a test that shows what is done about it."""

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]

# A failure -> module and test; in brackets the fault of the emulator or the text of the tool.
FAILURES = {
    "a file too many among the results": "test_ais_bench:an_extra_file_among_the_outputs_does_no_harm",
    "outputs in another order than inputs": "test_ais_bench:samples_are_files_mapped_by_name_in_bounded_chunks",
    "wrong soc_version": "test_atc:an_unknown_chip_is_a_sentence",
    "a model of another chip": "test_cann:a_model_of_another_chip_is_refused_before_it_is_loaded",
    "EE1001": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_soc]",
    "atc out of memory": "test_atc:a_failing_atc_is_a_sentence[atc_oom]",
    "atc for hours": "test_atc:a_hanging_atc_is_killed_with_a_heartbeat",
    "device busy, 507033": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_device_busy]",
    "dcmi -8005": "test_cann:a_broken_npu_smi_is_never_absent[smi_8005]",
    "dcmi -8020": "test_cann:a_broken_npu_smi_is_never_absent[smi_8020]",
    "npu-smi prints garbage": "test_cann:a_broken_npu_smi_is_never_absent[smi_garbage]",
    "npu-smi hangs": "test_cann:a_broken_npu_smi_is_never_absent[smi_hang]",
    "stale outputs": "test_ais_bench:a_leftover_folder_is_never_reused",
    "a stale .om": "test_atc:a_failing_atc_is_a_sentence[atc_stale]",
    "success without a file": "test_atc:a_failing_atc_is_a_sentence[atc_no_file]",
    "text loses precision": "test_ais_bench:the_accuracy_command_has_absolute_paths_npy_and_one_device",
    "padding of the last batch": "test_ais_bench:the_padding_of_the_last_batch_is_in_no_result",
    "warm-up among the times": "test_ais_bench:times_are_those_after_the_warm_up",
    "NumPy 2, Python 3.11, a missing module": "test_cann_env:the_python_of_atc_is_checked",
    "EC0010": "test_atc:a_failing_atc_is_a_sentence[atc_EC0010]",
    "operator or opset not supported": "test_atc:a_failing_atc_is_a_sentence[atc_E19010]",
    "no kernel on this chip": "test_atc:a_failing_atc_is_a_sentence[atc_EZ3002]",
    "permissions of the newer front end": "test_ais_bench:permissions_suit_both_generations_whatever_the_umask",
    "odd characters in a path": "test_ais_bench:odd_characters_in_the_scratch_folder_are_said",
    "several devices in one ais_bench": "test_chips:every_free_chip_takes_its_share_and_the_whole_is_judged_once",
    "file size does not match": "test_ais_bench:odd_batches_are_refused_before_the_run",
    "outputs cannot be split": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_save_out]",
    "dotted names overwrite each other": "test_ais_bench:samples_are_files_mapped_by_name_in_bounded_chunks",
    "relative paths under the profiler": "test_ais_bench:the_accuracy_command_has_absolute_paths_npy_and_one_device",
    "an old aclruntime": "test_ais_bench:an_old_aclruntime_is_noted",
    "libascend_hal.so": "test_atc:a_failing_atc_is_a_sentence[atc_missing_hal]",
    "fp16 overflows": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_nan]",
    "int64 for an index operator": "test_atc:a_failing_atc_is_a_sentence[atc_int64]",
    "OPP of another version": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_opp]",
    "CANN of another version": "test_cann:a_model_of_a_newer_cann_is_refused",
    "_linux_x86_64.om": "test_atc:a_suffixed_file_is_taken",
    "a vNPU slice is too small": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_load_failed]",
    "host_env_os from an IDE": "test_atc:the_terminal_of_an_ide_does_not_leak",
    "an output is missing": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_missing_output]",
    "an output is short": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_short_output]",
    "an output is there twice": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_duplicate_output]",
    "the summary is cut": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_summary_truncated]",
    "disk full under atc": "test_atc:a_failing_atc_is_a_sentence[atc_disk_full]",
    "disk full under the outputs": "test_ais_bench:a_failure_through_files_is_a_sentence[bench_disk_full]",
    "disk full under the inputs": "test_ais_bench:a_full_disk_under_the_inputs_is_said",
    "killed while building": "test_atc:a_killed_build_leaves_no_child_and_a_rerun_continues",
    "killed while predicting": "test_chips:a_run_that_is_killed_leaves_no_orphan_and_keeps_what_it_did",
    "two runs on one chip": "test_chips:a_second_run_waits_for_a_chip_and_says_for_whom",
    "one chip of several crashes": "test_chips:a_crash_names_the_chip_and_a_rerun_continues",
    "a hot or shared chip": "test_ais_bench:a_shared_hot_chip_makes_the_times_invalid_and_says_why",
}


@functools.cache
def source(module):
    (path,) = TESTS.rglob(f"{module}.py")
    return path.read_text(encoding="utf-8")


@functools.cache
def functions(module):
    tree = ast.parse(source(module))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_known_failure_has_a_test(failure):
    module, _, name = FAILURES[failure].partition(":")
    name, _, fault = name.partition("[")
    assert f"test_{name}" in functions(module)
    assert f'"{fault.rstrip("]")}"' in source(module) or not fault
