"""The emulated runtime under ais_bench: loads an emulated .om and computes with ONNX Runtime.

It prints and raises what aclruntime does, in both generations.
"""

import hashlib
import importlib.util
import os
import signal
import stat
import sys
from pathlib import Path
from time import sleep

from emulated import state
from emulated.dumps import Dumper
from emulated.faults import hang, has_fault, has_fault_on
from emulated.host import visible_chips
from emulated.om import read_om
from emulated.output import say
from emulated.wrong import planted

COLD_RUNS = 5
BUSY = """EL003: The argument is invalid.
       ...
	   Failed to open device,retCode=0x7020014,deviceId={0}.[FUNC:Init][FILE:device.cc][LINE:211]
	   ...
	   open device {0} failed,runtime result = 507033.[FUNC:ReportCallError][FILE:log_inner.cpp]
[ERROR] acl open device {0} failed
SetDevice failed.ret=507033"""
WRONG_SOC = "EE1001 ModelCheckCompatibility failed, supported socVersion=Ascend{}, but the model socVersion={}"
WRONG_OPP = (
    "E19999 The opp version of the model does not match the current opp run package,"
    " Model is [8.0], opp run package is [7.0]"
)


def generation():
    return os.environ.get("EMULATOR_GENERATION", "2025")


def is_new():
    return generation() == "2025"


def info(text, level="INFO"):
    say(f"[{level}] {text}")


def acl_error(code, text="ACL: general failure"):
    return RuntimeError(f"[{code}][{text}] ")


class Tensor:
    """What get_inputs and get_outputs return; a batch of -1 has the size of the largest."""

    def __init__(self, head, gears):
        import numpy as np

        self.name, self.shape, self.datatype = head["name"], head["shape"], head["dtype"]
        self.format = "ND"
        shape = [max(gears) if size == -1 else size for size in self.shape]
        self.size = int(np.prod(shape)) * np.dtype(self.datatype).itemsize
        self.realsize = self.size


class Model:
    """A loaded model; ``times_ms`` are those of the executions since the last reset."""

    def __init__(self, path, device, acl_json=None):
        self._dumper = dumper_for(acl_json, path, device) if acl_json else None
        self.device, self.times_ms, self.run_count, self.debug = device, [], 0, False
        self._ort = None
        self._open_device(device)
        self._loaded_before = state.load(device)
        if has_fault("bench_slow_load"):
            sleep(2)
        head = self._load(path)
        self.gears, self.gear = head["gears"], None
        self.inputs = [Tensor(h, self.gears) for h in head["inputs"]]
        self.outputs = [Tensor(h, self.gears) for h in head["outputs"]]
        info(f"load model {path} success")
        info("create model description success")

    def _open_device(self, device):
        info("acl init success")
        chips = visible_chips()
        if device >= len(chips) or has_fault_on("bench_device_busy", chips[device][1]):
            say(BUSY.format(device))
            raise acl_error(507033, "ACL: create context failed")
        info(f"open device {device} success")
        if is_new():
            info("create new context")

    def _load(self, path):
        chip, self.number = visible_chips()[self.device]
        try:
            head, self._right = read_om(path)
            self._precision = head.get("precision", {"mode": "fp16", "keep": []})
            self._onnx, self._aliases = planted(self._right, self._precision)
            self._digest = hashlib.blake2b(self._onnx)
        except (OSError, ValueError):
            raise self._load_failed(path, 1, "ACL: invalid parameter") from None
        if head["soc_version"] != f"Ascend{chip}" or has_fault("bench_soc"):
            say(WRONG_SOC.format(chip, head["soc_version"]))
            raise self._load_failed(path, 145000)
        if has_fault("bench_opp"):
            say(WRONG_OPP)
            raise self._load_failed(path, 545000)
        if has_fault("bench_load_failed"):
            raise self._load_failed(path, 507899)
        return head

    def _load_failed(self, path, code, text="ACL: general failure"):
        say(f"\n[ERROR] load model from file failed, model file is {path}")
        info(f"Check failed:processModel->LoadModelFromFile(modelPath), ret:{code}\n", "WARN")
        return acl_error(code, text)

    def set_staticbatch(self):
        """Forget the gear: the sizes that it gave stay, and the largest runs."""
        self.gear = None

    def set_dynamic_batchsize(self, gear):
        if gear not in self.gears:
            if self.gears:
                listed = "".join(f"[{one}]" for one in self.gears)
                info("the dymBatch parameter is not correct", "ERROR")
                told = f"model has dynamic batch size:{{{listed}}}"
                info(f"{told}, please set correct dynamic batch size", "ERROR")
            else:
                text = "the dynamic_batch_size parameter is not specified for model conversion"
                info(text, "ERROR")
            failed = "processModel->CheckDynamicBatchSize(batchsize, is_dymbatch)"
            info(f"Check failed:{failed}, ret:1", "WARN")
            raise acl_error(1, "ACL: invalid parameter")
        info("check dynamic batch success")
        self.gear = gear
        for tensor in self.inputs:
            if -1 in tensor.shape:
                tensor.realsize = tensor.size * gear // max(self.gears)

    def check_size(self, index, size):
        tensor = self.inputs[index]
        if size != tensor.realsize:
            text = f"Check i:{index} name:{tensor.name} in size:{size} needsize:{tensor.realsize} not match"
            info(text, "ERROR")
            failed = "check input vector failed" if is_new() else "Check InVector failed"
            info(f"{failed} ret:-1", "ERROR")
            raise acl_error(-1)

    def execute(self, arrays, loop=1):
        """Compute once, and report the time of ``loop`` executions."""
        import numpy as np

        late = has_fault_on("bench_hang_late", self.number) and self.run_count
        if late or has_fault_on("bench_hang", self.number):
            hang()
        if has_fault_on("bench_device_error", self.number):
            info("aclmdlExecute failed, ret 507011", "ERROR")
            raise acl_error(507011, "ACL: model execute failed")
        if has_fault_on("bench_crash", self.number) and self.run_count:
            os.kill(os.getpid(), signal.SIGSEGV)
        feeds = {}
        for index, (tensor, array) in enumerate(zip(self.inputs, arrays, strict=True)):
            data = np.ascontiguousarray(array)
            self.check_size(index, data.nbytes)
            feeds[tensor.name] = self._in_gear(data.view(np.uint8).reshape(-1), tensor)
        outputs = remembered(self._digest, feeds, lambda: self._session().run(None, feeds))
        if has_fault("bench_other_gear") and self.gears:
            rows = min(self.gears) * len(outputs[0]) // len(next(iter(feeds.values())))
            outputs = [np.where(np.arange(len(o))[:, None] < rows, o, 0) for o in outputs]
        if self._dumper is not None:
            faulty = self._onnx, self._right, self._precision, self._aliases
            place = self.gears.index(self._batch()) if self.gears else None
            self._dumper.write(*faulty, feeds, place)
        times = [self._time_ms() for _ in range(loop)]
        self._say_times(times)
        self.times_ms += times
        if has_fault("bench_nan"):
            outputs = [np.full_like(output, np.nan) for output in outputs]
        return outputs

    def _batch(self):
        return self.gear or max(self.gears)

    def _in_gear(self, data, tensor):
        """Return the bytes as the tensor of the gear; what a short buffer lacks is not the caller's."""
        import numpy as np

        shape = [self._batch() if size == -1 else size for size in tensor.shape]
        whole = np.zeros(int(np.prod(shape)) * np.dtype(tensor.datatype).itemsize, np.uint8)
        whole[: data.size] = data
        return whole.view(tensor.datatype).reshape(shape)

    def _say_times(self, times):
        """aclruntime's output while it runs: a loop prints counts, a debug session times."""
        cost = "[DEBUG] model aclExec cost : {:.6f}\n" if self.debug else ""
        text = "\n" if len(times) > 1 and not is_new() else ""
        for index, time in enumerate(times):
            text += cost.format(time)
            if len(times) > 1:
                text += f"\rloop inference exec: ({index + 1}/{len(times)})"
        say(text, end="\n" if len(times) > 1 else "")

    def _session(self):
        if self._ort is None:
            import onnxruntime as ort

            options = ort.SessionOptions()
            # A spinning thread costs more than a small model.
            options.intra_op_num_threads = 2 if len(self._onnx) > 10_000_000 else 1
            self._ort = ort.InferenceSession(self._onnx, options, ["CPUExecutionProvider"])
        return self._ort

    def _time_ms(self):
        import numpy as np

        base = float(os.environ.get("EMULATOR_LATENCY_MS", "5"))
        self.run_count += 1
        # The first runs after loading are slow, as on the real chip; later ones vary slightly.
        cold = 3.0 if self.run_count <= COLD_RUNS else 1.0
        if has_fault("bench_slowing"):
            base *= 1.0 + 0.2 * self._loaded_before
        return float(np.float32(base * cold * (1.0 + 0.01 * (self.run_count * 7 % 5))))

    def unload(self):
        info("unload model success, model Id is 1")
        if not is_new():
            info("end to destroy context")
        info(f"end to reset device {'' if is_new() else 'is '}{self.device}")
        info("end to finalize acl")


def dumper_for(acl_json, path, device):
    """What writes the dumps; None where the acl.json names another model."""
    made = Dumper(acl_json, path, device)
    if is_new() and not made.is_named:
        raise ValueError("dump failed, 'model_name' is not set or set incorrectly")
    return made if made.is_named else None


def remembered(model_digest, feeds, compute):
    """Return the result of ``compute``, from the folder EMULATOR_MEMORY if it is there.

    A model always gives the same output for the same input. A chip computes it in no time, but a
    processor should not repeat it for each of a hundred queries.
    """
    import numpy as np

    if not os.environ.get("EMULATOR_MEMORY"):
        return compute()
    digest = model_digest.copy()
    for name, array in sorted(feeds.items()):
        digest.update(name.encode() + np.ascontiguousarray(array).data.cast("B"))
    path = Path(os.environ["EMULATOR_MEMORY"], f"{digest.hexdigest()[:40]}.npz")
    if path.exists():
        with np.load(path) as arrays:
            return [arrays[name] for name in arrays.files]
    outputs = compute()
    part = path.with_suffix(f".{os.getpid()}")
    with part.open("wb") as file:
        np.savez(file, *outputs)
    part.replace(path)
    return outputs


def is_writable_by_others(path):
    return bool(stat.S_IMODE(Path(path).stat().st_mode) & 0o022)


def mode_is_above_0750(path):
    return bool(stat.S_IMODE(Path(path).stat().st_mode) & 0o027)


def import_failures():
    """Fail as an interpreter without the wheels does."""
    if has_fault("bench_missing"):
        sys.exit(f"{sys.executable}: No module named ais_bench")
    # ONNX Runtime is to the emulator what aclruntime is to the real tool.
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModuleNotFoundError("No module named 'aclruntime'")
