"""The real ONNX Runtime, which comes after this folder on the path, plus an emulated GPU."""

import importlib.machinery
import sys
from pathlib import Path

here, this = Path(__file__).resolve().parents[1], sys.modules[__name__]
others = [entry for entry in sys.path if Path(entry).resolve() != here]
spec = importlib.machinery.PathFinder.find_spec("onnxruntime", others)
assert spec is not None
assert spec.loader is not None
vars(this).update(__spec__=spec, __path__=spec.submodule_search_locations, __file__=spec.origin)
spec.loader.exec_module(this)

import emulated_gpu

vars(this).update(
    InferenceSession=emulated_gpu.InferenceSession,
    get_available_providers=emulated_gpu.get_available_providers,
)
