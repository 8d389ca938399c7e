"""The four checks of a cell, from the machine's files to a record."""

import contextlib
import dataclasses
import datetime
import functools
import io
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from harness import registry
from harness.accuracy import accuracy_measurement
from harness.artifacts import ArtifactStore
from harness.build import (
    Workshop,
    WeightsFile,
    device_model_from_onnx,
    onnx_from_torch,
    simplified_from_onnx,
    weights_from_site,
)
from harness.data.loading import samples
from harness.datasets import clip_set_from_site, motion8
from harness.divergence import first_divergent_module, first_divergent_node
from harness.environment import environment_facts
from harness.errors import (
    DeviceAbsent,
    DeviceBroken,
    HarnessError,
    InvalidMeasurement,
    MissingInput,
    RunError,
    StageError,
)
from harness.export import measure_export
from harness.inputs import ParityInputs, parity_inputs
from harness.judge import Verdict, judge_accuracy, judge_export, judge_parity, judge_throughput
from harness.locks import exclusive, shared
from harness.measurement import Measurement
from harness.parity import ChainScores, ParityMeasurement, parity_measurement
from harness.progress import Progress
from harness.records import Record, RunDirectory, StageRecord
from harness.reference import npz_from_predictions, rounding_facts, torch_predictions, torch_scores
from harness.run import feed_from_tensors, predict, run_tensors
from harness.runtimes.ort import ort_runner
from harness.scores import FLOAT16_SMALLEST_NORMAL, FLOAT32_SMALLEST_NORMAL
from harness.site import Site
from harness.spec import (
    Cell,
    Check,
    ClipSet,
    Device,
    DeviceModel,
    DeviceState,
    LoopSettings,
    ModelSpec,
    OnnxModel,
    Presence,
    Status,
)
from harness.stages import run_in_child
from harness.thresholds import Limits, Thresholds, Tier
from harness.throughput import SessionTiming, ThroughputMeasurement, throughput_measurement
from harness.timed_session import time_session

TIMED_CLIPS = 16
