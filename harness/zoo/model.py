"""A configuration of mmaction2 and what differs from it -> ModelSpec."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.spec import ONNX_FILE, InputProtocol, ModelSpec, TensorSpec
from harness.zoo.config import Config, config_from_file, config_path, merge
from harness.zoo.protocol import protocol_from_config

RECOGNIZERS = ("Recognizer2D", "Recognizer3D")
# Heads that average all frames of a sample into one row of scores.
ONE_ROW_HEADS = ("TSNHead",)
INPUT, OUTPUT = "imgs", "cls_score"


def model_spec_from_config(
    config: str,
    checkpoint: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    **differences: Any,
) -> ModelSpec:
    """Return the declaration of a model: its configuration, its weights and what differs.

    Args:
        config: path of the configuration, absolute or below ``mmaction/.mim/configs``.
        checkpoint: file name of the weights.
        overrides: entries merged into the ``model`` of the configuration.
        protocol: fields of the input protocol that differ.
        differences: fields of the spec that differ; ``input`` and ``output`` may be names alone.

    Raises:
        InputError: the configuration is not one of an RGB recognizer, or cannot be read.
    """
    read = config_from_file(config_path(config))
    merged = overrides_of(read, overrides or {})
    model = merge(read.part("model"), merged)
    _require_recognizer(read, model)
    way = dataclasses.replace(protocol_from_config(read), **(protocol or {}))
    classes, rows = model["cls_head"]["num_classes"], row_count(read, model, way)
    fields: dict[str, Any] = {
        "name": name_from_config(config),
        "dataset": dataset_of(read),
        "softmax_in_graph": False,
        **differences,
        "input": _tensor(differences.get("input", INPUT), (1, *way.sample_shape)),
        "output": _tensor(differences.get("output", OUTPUT), (rows, classes)),
    }
    return ModelSpec(
        config=config,
        checkpoint=checkpoint,
        overrides=merged,
        class_count=classes,
        protocol=way,
        **fields,
    )


def model_spec_from_file(
    file: str,
    *,
    inputs: Mapping[str, tuple[int, ...]],
    output: tuple[str, tuple[int, ...]],
    config: str = "",
    protocol: Mapping[str, Any] | None = None,
    **differences: Any,
) -> ModelSpec:
    """Return the declaration of a model that exists only as an ONNX file.

    Args:
        file: its name, ending in ``-<first hex digits of its sha256>.onnx``.
        inputs: shapes of one sample by name, in the order of the file.
        output: name and shape of the scores of one sample.
        config: the configuration of mmaction2 whose test pipeline makes the inputs, or none.
        protocol: fields of the input protocol that differ from it; without a configuration, all of them.
        differences: the other fields of the spec, of which ``name`` and ``dataset`` are needed.

    Raises:
        InputError: the configuration cannot be read.
    """
    fields, way = protocol or {}, None
    if config:
        way = dataclasses.replace(
            protocol_from_config(config_from_file(config_path(config))), **fields
        )
    tensors = tuple(TensorSpec(key, shape) for key, shape in inputs.items())
    return ModelSpec(
        config=config,
        overrides={},
        checkpoint=file,
        class_count=output[1][-1],
        input=tensors if len(tensors) > 1 else tensors[0],
        output=TensorSpec(*output),
        protocol=way or InputProtocol(**fields),
        **{"softmax_in_graph": False, **differences},
    )


def protocol_differences(config: str, protocol: InputProtocol) -> dict[str, Any]:
    """Return the fields in which a protocol differs from a configuration's; without one, all of them."""
    fields = dataclasses.asdict(protocol)
    if not config:
        return fields
    derived = dataclasses.asdict(protocol_from_config(config_from_file(config_path(config))))
    return {key: value for key, value in fields.items() if derived[key] != value}


def with_protocol(spec: ModelSpec, **changes: Any) -> ModelSpec:
    """Return a model with another protocol, and tensors to match; an ONNX file is returned unchanged."""
    if spec.reference == ONNX_FILE:
        return spec
    config, protocol = config_from_file(config_path(spec.config)), spec.protocol
    protocol = dataclasses.replace(protocol, **changes)
    rows = row_count(config, merge(config.part("model"), spec.overrides), protocol)
    return dataclasses.replace(
        spec,
        protocol=protocol,
        input=dataclasses.replace(spec.inputs[0], shape=(1, *protocol.sample_shape)),
        output=dataclasses.replace(spec.output, shape=(rows, spec.class_count)),
    )


def overrides_of(config: Config, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides with which a model fetches no pretrained weights."""
    merged: dict[str, Any] = {}
    for keys in _pretrained(config.part("model")):
        place = merged
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = None
    return merge(merged, overrides)


def name_from_config(config: str) -> str:
    """Return the name of a configuration as the name of a Python module."""
    return re.sub(r"\W", "_", Path(config).stem).lower()


def dataset_of(config: Config) -> str:
    """Return the folder of a configuration's data set below ``data/``."""
    listed = Path(str(config.part("data", "test").get("ann_file") or "data/unknown/list.txt")).parts
    return listed[listed.index("data") + 1] if "data" in listed[:-2] else Path(*listed[:-1]).name


def row_count(config: Config, model: Mapping[str, Any], protocol: InputProtocol) -> int:
    """Return how many rows of scores a sample has.

    Raises:
        InputError: the frames of a sample do not make whole clips of the model.
    """
    clips = protocol.crop_count * protocol.clips_per_crop
    if model["type"] == "Recognizer3D":
        return clips
    head, frames = model["cls_head"], protocol.sample_shape[0]
    if head["type"] in ONE_ROW_HEADS:
        return 1
    segments = head.get("num_segments") or model["backbone"].get("num_segments") or 8
    if frames % segments:
        raise InputError(
            f"{config.path}: a sample of {frames} frames does not make whole clips of {segments}; "
            "correct num_clips or num_segments"
        )
    return int(frames // segments)


def _require_recognizer(config: Config, model: Mapping[str, Any]) -> None:
    kind, head = model.get("type"), model.get("cls_head")
    if kind not in RECOGNIZERS:
        raise InputError(
            f"{config.path} builds {kind}; this suite takes classifiers of RGB clips: "
            f"{', '.join(RECOGNIZERS)}"
        )
    if not head:
        raise InputError(f"{config.path} has no classification head, so it cannot name a class")


def _pretrained(model: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in model.items():
        if key == "pretrained" and value:
            yield (*above, key)
        elif isinstance(value, Mapping):
            yield from _pretrained(value, (*above, key))


def _tensor(given: str | TensorSpec, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(given, shape) if isinstance(given, str) else given
