"""ONNX Runtime's CUDA provider, with the CPU standing in for it.

A session computes an input the first time; for the same input again, it answers after
EMULATOR_LATENCY_MS, as a chip would. Sessions of the CPU are the real ones.
"""

import hashlib
import os
import time

from onnxruntime.capi import onnxruntime_inference_collection as real
from onnxruntime.capi import onnxruntime_pybind11_state as state

CUDA = "CUDAExecutionProvider"


def get_available_providers():
    return [CUDA, *state.get_available_providers()]


class InferenceSession(real.InferenceSession):
    def __init__(self, path_or_bytes, sess_options=None, providers=None, *others, **named):
        # A provider may come alone or with its options, as ONNX Runtime itself takes it.
        asked = [one if isinstance(one, str) else one[0] for one in providers or ()]
        usable = [name for name in asked if name != CUDA]
        super().__init__(path_or_bytes, sess_options, usable, *others, **named)
        self._is_on_gpu, self._asked, self._memory = CUDA in asked, asked, {}
        self._latency_s = float(os.environ.get("EMULATOR_LATENCY_MS", "5")) / 1000

    def get_providers(self):
        # The constructor also asks, before its purpose is known.
        return getattr(self, "_asked", None) or super().get_providers()

    def run(self, names, feed, *others, **named):
        def compute():
            return super(InferenceSession, self).run(names, feed, *others, **named)

        return self._answer(key_of(feed), compute) if self._is_on_gpu else compute()

    def io_binding(self):
        return Binding(self) if self._is_on_gpu else super().io_binding()

    def run_with_iobinding(self, binding, *others, **named):
        def compute():
            super(InferenceSession, self).run_with_iobinding(binding, *others, **named)
            return binding.real_outputs()

        if self._is_on_gpu:
            binding.answer = self._answer(binding.key, compute)
        else:
            super().run_with_iobinding(binding, *others, **named)

    def _answer(self, key, compute):
        if key in self._memory:
            time.sleep(self._latency_s)
        else:
            self._memory[key] = compute()
        return [value.copy() for value in self._memory[key]]


class Binding(real.IOBinding):
    """Inputs and outputs that stay on the CPU, whatever memory is requested."""

    key, answer = b"", None

    def bind_cpu_input(self, name, value):
        self.key += key_of({name: value})
        super().bind_cpu_input(name, value)

    def bind_output(self, name, device_type="cpu", *others):
        super().bind_output(name, "cpu", *others)

    def real_outputs(self):
        return super().copy_outputs_to_cpu()

    def copy_outputs_to_cpu(self):
        return self.answer


def key_of(feed):
    digest = hashlib.blake2b()
    for name, value in sorted(feed.items()):
        digest.update(f"{name} {value.dtype} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.digest()
