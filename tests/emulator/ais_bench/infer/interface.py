"""The emulator's InferSession, in the generation that EMULATOR_GENERATION names."""

from emulated.device import Model, has_fault, is_new

if has_fault("bench_no_interface") or has_fault("bench_missing"):
    raise ImportError("No module named 'aclruntime'")


class Summary:
    def __init__(self, model):
        self._model = model

    @property
    def exec_time_list(self):
        times = self._model.times_ms
        return [(0.0, time) for time in times] if is_new() else list(times)


class InferSessionBoth:
    def __init__(self, device_id, model_path, acl_json_path=None, debug=False, loop=1):
        self.loop = loop
        self._model = Model(model_path, device_id, acl_json_path)

    def set_dynamic_batchsize(self, dym_batch):
        self._model.set_dynamic_batchsize(dym_batch)

    def get_inputs(self):
        return self._model.inputs

    def get_outputs(self):
        return self._model.outputs


class InferSession2023(InferSessionBoth):
    def infer(self, feeds, mode="static", custom_sizes=100000):
        return self._model.execute(feeds, self.loop)

    def sumary(self):
        return Summary(self._model)

    def finalize(self):
        self._model.unload()


class InferSession2025(InferSessionBoth):
    def infer(self, feeds, mode="static", custom_sizes=100000, out_array=True):
        if mode == "static":
            self._model.set_staticbatch()
        elif mode == "dymbatch":
            self._model.set_dynamic_batchsize(feeds[0].shape[0])
        else:
            raise RuntimeError(f"wrong infer_mode:{mode}")
        return self._model.execute(feeds, self.loop)

    def summary(self):
        return Summary(self._model)

    def free_resource(self):
        self._model.unload()

    @staticmethod
    def finalize():
        """Finalize ACL, after every session is freed."""


InferSession = InferSession2025 if is_new() else InferSession2023
InferSession.__name__ = InferSession.__qualname__ = "InferSession"
