"""What `python -m ais_bench` does once its command line is accepted."""

import os
import sys

import numpy as np

from emulated.device import Model, generation, info, is_new
from emulated.faults import has_fault
from emulated.files import PURE, Results, array_of_batch, batches_of, inputs_from_text
from emulated.output import say

DASHES = "-" * 54
OLD = {
    "2023": "aclruntime version:0.0.1 is lower please update aclruntime follow any one method",
    "2025": "aclruntime0.0.1 version is lower, please update from gitee repo: Ascend/tools",
}
NOT_FOUND = "can't find aclruntime, please install aclruntime from gitee repo: Ascend/tools"


def debug_lines(model):
    def rows(tensors):
        return "\n".join(
            f"  #{i}    {t.name}  {tuple(t.shape)}  {t.datatype}  {t.size}  {t.realsize}"
            for i, t in enumerate(tensors)
        )

    if is_new():
        info("aipp_input_exist: 0", "DEBUG")
    text = f"input:\n{rows(model.inputs)}\noutput:\n{rows(model.outputs)}\n"
    info(f"session info:<Model>\ndevice:\t{model.device}\n{text}", "DEBUG")


def bar(done, count):
    share = f"{100 * done // count:>3}%|{'█' * 10 if done else ' ' * 10}| {done}/{count}"
    rate = "00:00, 75.18it/s" if done else "00:00<?, ?it/s"
    return f"\rInference array Processing: {share} [{rate if not done else '00:00<' + rate}]"


def arrays_of(batch, model):
    if model.debug and not is_new():
        info(f"get tensor from filepath:{batch[0][0]} i:0 of all:1", "DEBUG")
    if batch[0][0] == PURE:
        return [np.zeros(t.realsize, np.uint8) for t in model.inputs]
    return [array_of_batch(files) for files in batch]


def infer_all(args, model, batches, results):
    """Execute every batch, with the lines of a loop, and save the outputs."""
    say(bar(0, len(batches)), end="")
    number = 0
    for batch in batches:
        outputs = model.execute(arrays_of(batch, model), args.loop)
        results.save(batch, outputs, number)
        number += len(batch[0])
    say(bar(len(batches), len(batches)))


def statistics(times):
    values = [float(time) for time in times]
    return {
        "min": min(values),
        "max": max(values),
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "percentile(99%)": float(np.percentile(values, 99)),
        "count": len(values),
    }


def line_of(name, stats):
    parts = ", ".join(f"{key} = {value}" for key, value in stats.items() if key != "count")
    info(f"{name} (ms): {parts}")


def report(args, model, batch_count, batchsize):
    """Print the summary and return its numbers."""
    times = list(model.times_ms)
    if has_fault("bench_times_lost"):
        times = times[:-1]
    compute = statistics(times)
    h2d = statistics([float(np.float32(0.9))] * batch_count)
    d2h = statistics([float(np.float32(0.004))] * batch_count)
    throughput = 1000 * batchsize / compute["mean"]
    info(f"{DASHES[:17]}Performance Summary{DASHES[:18]}")
    if args.display_all_summary:
        line_of("H2D_latency", h2d)
    line_of("NPU_compute_time", compute)
    if args.display_all_summary:
        line_of("D2H_latency", d2h)
    means = f"1000*batchsize.mean({batchsize})/NPU_compute_time.mean({compute['mean']})"
    info(f"throughput {means}: {throughput}")
    info(DASHES)
    if has_fault("bench_time_nan"):
        times[-1] = float("nan")
    tail = [("throughput", throughput), ("npu_compute_time_list", times)]
    head = {"args": sys.argv, "NPU_compute_time": compute, "H2D_latency": h2d, "D2H_latency": d2h}
    return head | dict(reversed(tail) if is_new() else tail)


def check_aclruntime(args):
    """Warn of an aclruntime whose version does not fit, and change the mode."""
    if has_fault("bench_old_aclruntime"):
        info(OLD[generation()], "WARNING")
        args.run_mode = "tensor"
    elif has_fault("bench_no_version") and is_new():
        info(NOT_FOUND, "WARNING")
        args.run_mode = "tensor"


def run_all(args):
    """Load, warm up, infer, report."""
    check_aclruntime(args)
    if not is_new() and args.output:
        os.umask(0o022)
    model = Model(args.model, args.device, args.acl_json_path)
    if args.dymBatch:
        model.set_dynamic_batchsize(args.dymBatch)
    else:
        model.set_staticbatch()
    batchsize = args.batchsize or args.dymBatch or model.inputs[0].shape[0]
    if not args.batchsize:
        info(f"try get model batchsize:{batchsize}")
    if args.debug:
        debug_lines(model)
        model.debug = True
    results = Results(args)
    lists = inputs_from_text(args.input, model) if args.input else None
    batches = batches_of(lists, model) if lists else [[[PURE]] * len(model.inputs)]
    for _ in range(args.warmup_count):
        model.execute(arrays_of(batches[0], model))
    model.times_ms.clear()
    info(f"warm up {args.warmup_count} done")
    infer_all(args, model, batches, results)
    numbers = report(args, model, len(batches), batchsize)
    if results.folder is not None:
        results.write_summary(numbers)
    model.unload()
    return 0
