import copy
import hashlib
import json
import math

import pytest

from harness import registry
from harness.contract.thresholds import thresholds_from_file, tier_names
from harness.device import DeviceSpec
from harness.errors import InputError, ThresholdsError
from harness.host.site import FIXTURES
from harness.spec import CHECKS, Cell

MISSING = object()
PARITY = {
    "fp64_factor": 4.0,
    "fp64_atol": 1e-6,
    "max_abs_error": 1e-3,
    "p999_abs_error": 1e-4,
    "relative_l2": 1e-4,
    "cosine": 0.9999,
    "top1_agreement": 1.0,
    "top5_overlap": 1.0,
    "source": "us",
}
SPEED = {"golden": 20.0, "tolerance": 0.1, "source": "guide"}
TIMING = {
    "sessions_min": 2,
    "sessions_max": 4,
    "warmup_queries": 3,
    "min_queries": 10,
    "min_seconds": 1.0,
}


def model(*batches):
    return {
        "clip_set": "kinetics400",
        "paired": {"margin": 0.01, "confidence": 0.95, "source": "us"},
        "top1": {"floor": 0.716, "source": "guide"},
        "top5": {"floor": 0.9, "source": "guide"},
        "devices": {
            "cpu": {
                "top1": {"golden": 0.7164, "guide": 0.7162, "source": "us"},
                "throughput": dict.fromkeys(batches, SPEED),
            }
        },
    }


TERMS = {"unit": "clips/s", "definition": "device", "scope": "host"}
HALF = {"throughput": {**TERMS, "bs1": SPEED}}
VALID = {
    "schema": 2,
    "sources": {"guide": "the guide", "us": "measured by us"},
    "clip_sets": {"kinetics400": {"clip_count": 19796, "unreadable_max": 3, "source": "guide"}},
    "parity": {"fp32": PARITY},
    "devices": {"cpu": TERMS},
    "models": {"nonlocal_r50": model("bs1", "bs4"), "timesformer": model("bs1")},
    "tiers": {
        "smoke": {
            "cells": ["nonlocal_r50-cpu-bs1"],
            "required": ["*:parity"],
            "parity_inputs": {"default": 8, "nonlocal_r50-cpu": 4},
            "timing": {"default": TIMING, "nonlocal_r50-cpu": {**TIMING, "sessions_max": 9}},
        },
        "release": {
            "cells": ["*"],
            "required": ["*-cpu-bs1:*", "nonlocal_r50-cpu-bs4:export"],
            "parity_inputs": {"default": 64},
            "timing": {"default": TIMING},
        },
    },
}
BOUNDS = {
    "floor": 2.0,
    "ceiling": 5e5,
    "unit": "clips/s",
    "definition": "device",
    "scope": "chip",
    "source": "us",
}


def toml_from_tables(tables, path=()):
    lines = [f"[{'.'.join(path)}]"] if path else []
    lines += [f"{k} = {literal(v)}" for k, v in tables.items() if not isinstance(v, dict)]
    for key, value in tables.items():
        if isinstance(value, dict):
            lines.append(toml_from_tables(value, (*path, key)))
    return "\n".join(lines)


def literal(value):
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


def changed(key, value):
    """Return the valid tables with one key set, or removed."""
    tables = copy.deepcopy(VALID)
    *path, last = key.split(".")
    table = tables
    for part in path:
        table = table.setdefault(part, {})
    if value is MISSING:
        del table[last]
    else:
        table[last] = value
    return tables


@pytest.fixture
def read(tmp_path):
    def read_tables(tables, tail=""):
        path = tmp_path / "thresholds.toml"
        path.write_text(toml_from_tables(tables) + tail, encoding="utf-8")
        return thresholds_from_file(path)

    return read_tables


def refusal(read, tables, tail=""):
    with pytest.raises(ThresholdsError) as caught:
        read(tables, tail)
    assert "thresholds.toml" in str(caught.value)
    return str(caught.value)


def test_a_valid_file_is_read_with_the_digest_of_its_bytes(read):
    thresholds = read(VALID)
    assert thresholds.digest == hashlib.sha256(thresholds.path.read_bytes()).hexdigest()
    assert thresholds.file.models["timesformer"].paired.margin == 0.01


def test_cells_keep_the_order_of_the_file(read):
    ids = [cell.id for cell in read(VALID).cells()]
    assert ids == ["nonlocal_r50-cpu-bs1", "nonlocal_r50-cpu-bs4", "timesformer-cpu-bs1"]


def test_a_tier_has_the_cells_that_its_patterns_match(read):
    thresholds = read(VALID)
    assert thresholds.cells("smoke") == (Cell("nonlocal_r50", "cpu", 1),)
    assert thresholds.cells("release") == thresholds.cells()


def test_more_timing_is_room_that_is_never_less(read):
    thresholds = read(VALID).with_more_timing(3, 0.5)
    for name in thresholds.file.tiers:
        plan, asked = (
            thresholds.tier(name).timing["default"],
            read(VALID).tier(name).timing["default"],
        )
        assert plan == asked.model_copy(update={"budget_minutes": 0.5})
    plan = thresholds.with_more_timing(9, 0.25).tier("smoke").timing["default"]
    assert (plan.sessions_min, plan.sessions_max, plan.budget_minutes) == (2, 9, 0.5)


@pytest.mark.parametrize(
    ("sessions", "seconds", "is_spent"),
    [(3, 31.0, False), (4, 29.9, False), (4, 30.0, True), (5, 31.0, True)],
)
def test_a_plan_is_spent_after_its_sessions_and_its_minutes(read, sessions, seconds, is_spent):
    plan = read(VALID).with_more_timing(4, 0.5).tier("smoke").timing["default"]
    assert plan.is_spent(sessions, seconds) is is_spent


def test_a_soak_of_so_many_minutes_is_that_of_one_tier(read):
    thresholds = read(VALID).with_soak("smoke", 5.0)
    assert thresholds.tier("smoke").soak_minutes == 5.0
    assert thresholds.tier("release") == read(VALID).tier("release")
    assert thresholds.tier("smoke") == read(VALID).tier("smoke").model_copy(
        update={"soak_minutes": 5.0}
    )
    with pytest.raises(InputError, match="has no tier 'weekly'"):
        read(VALID).with_soak("weekly", 5.0)


def test_a_device_model_may_be_limited(read):
    key = "models.nonlocal_r50.devices.cpu.device_model"
    thresholds = read(changed(key, {"memory_max_mb": 100.0, "source": "us"}))
    limits = thresholds.limits(Cell("nonlocal_r50", "cpu", 4)).device_model
    assert (limits.memory_max_mb, limits.ai_cpu_operators_max) == (100.0, None)
    assert limits.source == "measured by us"
    assert read(VALID).limits(Cell("nonlocal_r50", "cpu", 4)).device_model is None
    text = refusal(read, changed(key, {"memory_max_mb": -1.0, "source": "us"}))
    assert f"{key}.memory_max_mb" in text


def test_a_cell_has_more_checks_where_the_contract_limits_what_they_measure(read):
    tables = copy.deepcopy(VALID)
    cpu = tables["models"]["nonlocal_r50"]["devices"]["cpu"]
    cpu["startup"] = {"source": "us", "host_peak_max_mb": 400.0, "bs1": {"warm_load_max_ms": 9.0}}
    cpu["soak"] = {"bs1": {"retention_min": 0.9, "source": "us"}}
    tables["tiers"]["smoke"]["soak_minutes"] = 30.0
    contract, cell = read(tables), Cell("nonlocal_r50", "cpu", 1)
    assert contract.checks(cell, "smoke")[4:] == ("startup", "soak")
    # How long is the tier's to say.
    assert contract.checks(cell, "release")[4:] == ("startup",)
    assert contract.checks(Cell("nonlocal_r50", "cpu", 4), "smoke") == CHECKS
    startup = contract.limits(cell).startup
    assert (startup.host_peak_max_mb, startup.warm_load_max_ms) == (400.0, 9.0)


def test_unknown_tier_lists_the_known(read):
    with pytest.raises(InputError, match=r"no tier 'weekly'; there are: smoke, release"):
        read(VALID).cells("weekly")


def test_what_a_tier_requires(read):
    tier = read(VALID).tier("release")
    assert tier.requires(Cell("timesformer", "cpu", 1), "accuracy")
    assert tier.requires(Cell("nonlocal_r50", "cpu", 4), "export")
    assert not tier.requires(Cell("nonlocal_r50", "cpu", 4), "parity")
    assert not tier.requires(Cell("timesformer", "cpu", 16), "accuracy")


def test_plans_fall_back_to_the_default(read):
    tier = read(VALID).tier("smoke")
    cells = [Cell("nonlocal_r50", "cpu", 1), Cell("nonlocal_r50", "cuda", 1)]
    assert [tier.inputs_for(cell) for cell in cells] == [4, 8]
    assert [tier.timing_for(cell).sessions_max for cell in cells] == [9, 4]


def test_limits_gather_everything_that_a_cell_is_judged_by(read):
    limits = read(VALID).limits(Cell("nonlocal_r50", "cpu", 4))
    assert limits.parity == limits.host_parity
    assert (limits.accuracy.clip_count, limits.accuracy.unreadable_max) == (19796, 3)
    assert (limits.accuracy.top1.floor, limits.accuracy.top5.floor) == (0.716, 0.9)
    assert limits.throughput.floor == pytest.approx(18.0)
    assert limits.throughput.ceiling == pytest.approx(60.0)
    assert (limits.throughput.unit, limits.throughput.source) == ("clips/s", "the guide")


def test_the_floor_of_a_model_is_that_of_its_devices_and_both_say_where_from(read):
    cell = Cell("nonlocal_r50", "cpu", 1)
    top1 = read(VALID).limits(cell).accuracy.top1
    assert (top1.floor, top1.golden, top1.guide) == (0.716, 0.7164, 0.7162)
    assert top1.source == "the guide; measured by us"
    own = {"floor": 0.7, "source": "us"}
    top1 = read(changed("models.nonlocal_r50.devices.cpu.top1", own)).limits(cell).accuracy.top1
    assert (top1.floor, top1.golden, top1.source) == (0.7, None, "measured by us")


def test_a_row_wins_over_its_table_and_that_over_the_device(read):
    tables = changed("devices.cpu.implausible", 4.0)
    throughput = tables["models"]["nonlocal_r50"]["devices"]["cpu"]["throughput"]
    throughput |= {"implausible": 5.0, "definition": "e2e", "source": "us", "tolerance": 0.3}
    throughput["bs1"] = {"golden": 20.0, "implausible": 6.0, "source": "guide"}
    throughput["bs4"] = {"golden": 30.0}
    references = read(tables).references().values()
    assert [(one.golden, one.implausible, one.definition, one.source) for one in references] == [
        (20.0, 6.0, "e2e", "the guide"),
        (30.0, 5.0, "e2e", "measured by us"),
        (20.0, 4.0, "device", "the guide"),
    ]
    assert [one.tolerance for one in references] == [0.3, 0.3, 0.1]


def test_a_model_differs_from_the_parity_of_all_in_the_keys_that_it_names(read):
    tables = changed("models.nonlocal_r50.parity", {"fp32": {"cosine": 0.9, "source": "guide"}})
    thresholds = read(tables)
    own, others = (thresholds.limits(Cell(name, "cpu", 1)).parity for name in tables["models"])
    assert (own.cosine, own.source, own.relative_l2) == (0.9, "the guide", 1e-4)
    assert (others.cosine, others.source) == (0.9999, "measured by us")


def test_limits_of_every_clip_are_shared_as_those_of_parity(read):
    limits = {"max_abs_error": 0.1, "p999_abs_error": 0.05, "relative_l2": 0.1, "source": "us"}
    tables = changed("models.nonlocal_r50.every_clip.fp32", {"relative_l2": 0.2})
    tables["every_clip"] = {"fp32": limits}
    thresholds = read(tables)
    found = [thresholds.limits(Cell(name, "cpu", 1)).accuracy for name in tables["models"]]
    assert [one.every_clip.relative_l2 for one in found] == [0.2, 0.1]
    tables["every_clip"]["fp16"] = limits
    assert "every_clip: no device of any model computes in it" in refusal(read, tables)


def test_a_cell_without_a_golden_has_the_bounds_of_all(read):
    tables = changed("models.nonlocal_r50.devices.cuda", {"no_golden": ["bs8"]}) | {
        "no_golden": BOUNDS
    }
    thresholds = read(tables)
    cell = Cell("nonlocal_r50", "cuda", 8)
    reference = thresholds.limits(cell).throughput
    assert (reference.floor, reference.ceiling, reference.scope) == (2.0, 5e5, "chip")
    assert thresholds.cells()[2] == cell
    assert thresholds.limits(cell).accuracy.top1.floor == 0.716


@pytest.mark.parametrize("batch", [0, 2, 16])
def test_limits_of_a_cell_that_is_not_there(read, batch):
    with pytest.raises(InputError, match=f"no cell nonlocal_r50-cpu-bs{batch}; there are: .*bs4"):
        read(VALID).limits(Cell("nonlocal_r50", "cpu", batch))


@pytest.fixture
def half_device(monkeypatch):
    """A device that computes in half precision."""
    spec = DeviceSpec("half", "a double", "a runtime", "version", "fp16")
    names, find = registry.device_names(), registry.device_spec
    monkeypatch.setattr(registry, "device_names", lambda: (*names, "half"))
    monkeypatch.setattr(
        registry, "device_spec", lambda name: spec if name == "half" else find(name)
    )


@pytest.mark.usefixtures("half_device")
def test_parity_on_a_device_is_judged_in_its_precision(read):
    tables = changed("models.nonlocal_r50.devices.half", HALF)
    tables["parity"]["fp16"] = {**PARITY, "cosine": 0.99}
    limits = read(tables).limits(Cell("nonlocal_r50", "half", 1))
    assert (limits.parity.cosine, limits.host_parity.cosine) == (0.99, 0.9999)


@pytest.mark.usefixtures("half_device")
def test_missing_precision_is_named(read):
    message = refusal(read, changed("models.nonlocal_r50.devices.half", HALF))
    assert "models.nonlocal_r50.parity.fp16: missing" in message


SPEED_KEY = "models.nonlocal_r50.devices.cpu.throughput"
BAD_VALUES = [
    ("colour", "red"),
    ("schema", 3),
    ("schema", MISSING),
    ("schema", "2"),
    ("sources", MISSING),
    ("sources.guide", " "),
    ("sources.more", "a number that nobody has"),
    ("models", {}),
    ("tiers", {}),
    ("clip_sets.kinetics400.clip_count", 0),
    ("clip_sets.kinetics400.clip_count", 19796.0),
    ("clip_sets.kinetics400.clip_count", True),
    ("clip_sets.kinetics400.unreadable_max", -1),
    ("clip_sets.kinetics400.source", ""),
    ("clip_sets.kinetics400.source", "gide"),
    ("clip_sets.kinetics400.source", 3),
    ("clip_sets.kinetics400.digest", "abc"),
    ("models.nonlocal_r50.colour", "red"),
    ("models.nonlocal_r50.clip_set", MISSING),
    ("models.nonlocal_r50.devices", {}),
    ("parity.int8", PARITY),
    ("parity.fp16", PARITY),
    ("parity.fp32.cosine", "0.99"),
    ("parity.fp32.cosine", 1.01),
    ("parity.fp32.cosine", 0.0),
    ("parity.fp32.top1_agreement", 0.0),
    ("parity.fp32.cosine", True),
    ("parity.fp32.fp64_factor", 0.0),
    ("parity.fp32.max_abs_error", math.nan),
    ("parity.fp32.max_abs_error", math.inf),
    ("parity.fp32.max_abs_error", -1e-3),
    ("parity.fp32.relative_l2", MISSING),
    ("models.nonlocal_r50.parity.int8", PARITY),
    ("models.nonlocal_r50.parity.fp16", {"cosine": 0.9}),
    ("models.nonlocal_r50.parity.fp32.cosine", 1.01),
    ("models.nonlocal_r50.parity.fp32.colour", "red"),
    ("multiply_adds.tolerance", 1.0),
    ("multiply_adds.tolerance", -0.01),
    ("devices.tpu", {"unit": "clips/s"}),
    ("devices.cuda", {"unit": "clips/s"}),
    ("devices.cpu.colour", "red"),
    ("no_golden", BOUNDS),
    ("models.nonlocal_r50.devices.cuda", {"no_golden": []}),
    ("models.nonlocal_r50.paired.confidence", 1.0),
    ("models.nonlocal_r50.paired.margin", -0.01),
    ("models.nonlocal_r50.paired.margin", 1.0),
    ("models.nonlocal_r50.top1", 0.7),
    ("models.nonlocal_r50.devices.cpu.colour", "red"),
    ("models.nonlocal_r50.devices.cpu.top1.guide", 71.62),
    ("models.nonlocal_r50.devices.cpu.top1.floor", 71.6),
    ("models.nonlocal_r50.devices.cpu.top1.floor", 0.0),
    ("models.nonlocal_r50.devices.cpu.top1.unit", "%"),
    (SPEED_KEY, {}),
    (f"{SPEED_KEY}.colour", "red"),
    (f"{SPEED_KEY}.bs1", 20.0),
    (f"{SPEED_KEY}.bs1.colour", "red"),
    (f"{SPEED_KEY}.bs1.guide", 0.0),
    (f"{SPEED_KEY}.bs1.golden", "20"),
    (f"{SPEED_KEY}.bs1.golden", 0.0),
    (f"{SPEED_KEY}.bs1.golden", math.nan),
    (f"{SPEED_KEY}.bs1.golden", -math.inf),
    (f"{SPEED_KEY}.bs1.tolerance", 1.0),
    (f"{SPEED_KEY}.bs1.tolerance", 1.1),
    (f"{SPEED_KEY}.bs1.tolerance", -0.1),
    (f"{SPEED_KEY}.bs1.unit", "fps"),
    (f"{SPEED_KEY}.bs1.definition", "fast"),
    (f"{SPEED_KEY}.bs1.implausible", 1.0),
    (f"{SPEED_KEY}.bs1.source", MISSING),
    ("tiers.smoke.cells", []),
    ("tiers.smoke.cells", [""]),
    ("tiers.smoke.required", []),
    ("tiers.smoke.required", MISSING),
    ("tiers.smoke.parity_inputs.default", 0),
    ("tiers.smoke.timing.default.min_seconds", math.nan),
    ("tiers.smoke.timing.default.sessions_min", 2.5),
]


@pytest.mark.parametrize("field", [("unit", "x unoptimised"), ("against", "unoptimised")])
def test_a_unit_that_is_not_what_is_measured_is_refused(read, field):
    name, value = field
    message = refusal(read, changed(f"{SPEED_KEY}.bs1.{name}", value))
    assert f"\n  {SPEED_KEY}.bs1: " in message
    assert "does not go with against" in message


@pytest.mark.parametrize(("key", "value"), BAD_VALUES)
def test_a_malformed_value_is_named_by_its_key(read, key, value):
    message = refusal(read, changed(key, value))
    assert "is malformed" in message
    assert f"\n  {key}" in message


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"retention_min": 0.9, "source": "us"}, "cpu.soak: has no row, such as bs1"),
        ({"bs1": {"source": "us"}}, "cpu.soak.bs1: Value error, limits nothing; there are: reten"),
    ],
)
def test_a_table_of_limits_limits_something(read, table, expected):
    message = refusal(read, changed("models.nonlocal_r50.devices.cpu.soak", table))
    assert expected in message


def test_a_row_may_name_a_precision(tmp_path):
    path = tmp_path / "thresholds.toml"
    own = (FIXTURES.parent / "thresholds.toml").read_text()
    both = 'ascend310p = { no_golden = ["bs1", "bs4", "bs8"'
    path.write_text(own.replace(both, f'{both}, "bs4-origin"'))
    thresholds = thresholds_from_file(path)
    cell = Cell("nonlocal_tiny", "ascend310p", 4, "origin")
    assert cell in thresholds.cells("emulated")
    assert cell.id == "nonlocal_tiny-ascend310p-bs4-origin"
    plain = Cell("nonlocal_tiny", "ascend310p", 4)
    # It computes in the dtypes of the file, so it is held to the limits of float32.
    assert thresholds.limits(cell).parity == thresholds.limits(plain).host_parity
    assert thresholds.limits(plain).parity != thresholds.limits(plain).host_parity
    gear = Cell("nonlocal_tiny", "ascend310p", 4, "gears")
    assert thresholds.limits(gear).parity == thresholds.limits(plain).parity


INCONSISTENT = [
    (f"{SPEED_KEY}.bs0", SPEED, f"{SPEED_KEY}.bs0: a batch size is written bs1, bs4"),
    (f"{SPEED_KEY}.4", SPEED, f"{SPEED_KEY}.4: a batch size is written"),
    (f"{SPEED_KEY}.bs04", SPEED, f"{SPEED_KEY}.bs04: a batch size is written"),
    (f"{SPEED_KEY}.bs-1", SPEED, f"{SPEED_KEY}.bs-1: a batch size is written"),
    (
        "models.timesformer.devices.cpu.throughput.bs4",
        SPEED,
        "models.timesformer.devices.cpu.throughput.bs4: timesformer supports bs1 only",
    ),
    (f"{SPEED_KEY}.bs1-half", SPEED, f"{SPEED_KEY}.bs1-half: nonlocal_r50 has no precision half; "),
    (f"{SPEED_KEY}.bs1-origin", SPEED, f"{SPEED_KEY}.bs1-origin: cpu computes as the file says"),
    ("models.resnet", model("bs1"), "models.resnet: no such model; there are: nonlocal_r50"),
    (
        "models.nonlocal_r50.devices.tpu",
        HALF,
        "models.nonlocal_r50.devices.tpu: no such device; there are: ",
    ),
    (
        "models.nonlocal_r50.clip_set",
        "imagenet",
        "models.nonlocal_r50.clip_set: there is no table clip_sets.imagenet",
    ),
    (
        "models.nonlocal_r50.clip_set",
        "motion8",
        "models.nonlocal_r50.clip_set: motion8, but the model is of kinetics400",
    ),
    (
        "clip_sets.kinetics400.class_count",
        101,
        "models.nonlocal_r50.clip_set: nonlocal_r50 tells 400 classes apart, kinetics400 has 101",
    ),
    (
        "clip_sets.motion8",
        {"clip_count": 400, "source": "us"},
        "clip_sets.motion8: no model uses it",
    ),
    ("parity.fp32", MISSING, "models.nonlocal_r50.parity.fp32: missing"),
    (
        "models.nonlocal_r50.devices.cpu.startup",
        {"bs8": {"warm_load_max_ms": 9.0, "source": "us"}},
        "models.nonlocal_r50.devices.cpu.startup.bs8: no such cell; it needs a row in models",
    ),
    (
        "tiers.smoke.soak_minutes",
        30.0,
        "tiers.smoke.soak_minutes: no cell of the tier has a row in a soak table",
    ),
    ("tiers.smoke.required", ["*:startup"], "tiers.smoke.required: '*:startup' matches no check"),
    ("tiers.smoke.cells", ["*-tpu-*"], "tiers.smoke.cells: '*-tpu-*' matches no cell"),
    (
        "tiers.smoke.required",
        ["*-bs4:parity"],
        "tiers.smoke.required: '*-bs4:parity' matches no check of the tier's cells",
    ),
    ("tiers.smoke.required", ["*:speed"], "tiers.smoke.required: '*:speed' matches no check"),
    (
        "tiers.smoke.parity_inputs.default",
        MISSING,
        "tiers.smoke.parity_inputs.default: missing",
    ),
    ("tiers.smoke.timing.default", MISSING, "tiers.smoke.timing.default: missing"),
    (
        "tiers.smoke.timing.resnet",
        TIMING,
        "tiers.smoke.timing.resnet: the tier has no such model-device",
    ),
    (
        "tiers.smoke.parity_inputs.resnet",
        3,
        "tiers.smoke.parity_inputs.resnet: the tier has no such model-device",
    ),
    (
        "tiers.smoke.parity_inputs.timesformer-cpu",
        3,
        "tiers.smoke.parity_inputs.timesformer-cpu: the tier has no such model-device",
    ),
    (
        "tiers.smoke.timing.default.sessions_max",
        1,
        "tiers.smoke.timing.default.sessions_max: below sessions_min",
    ),
]


@pytest.mark.parametrize(("key", "value", "expected"), INCONSISTENT)
def test_what_does_not_fit_together_is_named(read, key, value, expected):
    message = refusal(read, changed(key, value))
    assert "is inconsistent" in message
    assert f"\n  {expected}" in message


def test_every_problem_is_named_at_once(read):
    tables = changed("models.nonlocal_r50.paired.margin", "small")
    tables["tiers"]["smoke"]["colour"] = "red"
    message = refusal(read, tables)
    assert "models.nonlocal_r50.paired.margin: " in message
    assert "tiers.smoke.colour: " in message


@pytest.mark.parametrize("line", ["big = " + "1" * 5000, "deep = " + "[" * 5000])
def test_toml_that_python_cannot_hold_is_refused(read, line, tmp_path):
    assert "is not TOML" in refusal(read, VALID, "\n" + line)
    assert tier_names(tmp_path / "thresholds.toml") == ()


@pytest.mark.parametrize("end", ["", "\n\n[last]\n"])
@pytest.mark.parametrize(
    "line",
    [
        "[clip_sets.kinetics400]",
        "[models.timesformer.devices.cpu.throughput.bs1]",
        "[again]\ngolden = 1\ngolden = 2",
        "golden 1",
        "golden = ",
    ],
)
def test_toml_errors_quote_the_line(read, line, end):
    message = refusal(read, VALID, "\n" + line + end)
    assert "is not TOML" in message
    assert message.endswith(": " + line.splitlines()[-1].strip())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ThresholdsError, match=r"none\.toml cannot be read: No such file"):
        thresholds_from_file(tmp_path / "none.toml")


def test_a_file_in_another_encoding(tmp_path):
    path = tmp_path / "thresholds.toml"
    path.write_bytes('source = "Prüfung"'.encode("latin-1"))
    with pytest.raises(ThresholdsError, match=r"thresholds\.toml is not UTF-8"):
        thresholds_from_file(path)


def test_a_waiver_that_no_tier_could_review_is_refused(read):
    tables = changed("tiers.release.cells", ["*-bs1"])
    tables["tiers"]["release"]["required"] = ["*:export"]
    tail = """
[[waivers]]
cell = "nonlocal_r50-cpu-bs4"
check = "parity"
reason = "overflows"
issue = "NPU-17"
owner = "mei"
expires = 2026-12-31
"""
    text = refusal(read, tables, tail)
    assert "'nonlocal_r50-cpu-bs4' is run by no tier, so the waiver could never" in text
    assert read(VALID, tail).file.waivers[0].owner == "mei"


def test_a_tier_names_how_many_clips_by_cell(read):
    cell = Cell("nonlocal_r50", "cpu", 1)
    assert read(VALID).tier("smoke").clips_for(cell) is None
    tier = read(changed("tiers.smoke.clips", {"default": 200})).tier("smoke")
    assert tier.clips_for(cell) == 200
    tier = read(changed("tiers.smoke.clips", {"nonlocal_r50-cpu": 100, "default": 200}))
    assert tier.tier("smoke").clips_for(cell) == 100


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        ({"default": 19796}, "tiers.smoke.clips: 19796 clips for nonlocal_r50-cpu-bs1 are not a"),
        ({"default": 0}, "tiers.smoke.clips.default: Input should be greater than or equal to 1"),
        ({"nonlocal_r50": 9}, "tiers.smoke.clips.nonlocal_r50: the tier has no such model-device"),
    ],
)
def test_a_subset_that_is_the_whole_set_or_empty_is_refused(read, clips, words):
    assert words in refusal(read, changed("tiers.smoke.clips", clips))


@pytest.mark.parametrize("name", ["cpu", "parity", "Smoke", "by-night"])
def test_a_tier_that_cannot_be_a_marker_is_refused(read, name):
    tables = changed("tiers.smoke", MISSING)
    tables["tiers"][name] = VALID["tiers"]["smoke"]
    assert f"tiers.{name}: a tier is a pytest marker" in refusal(read, tables)


def test_the_names_of_tiers_are_read_from_any_file(read, tmp_path):
    assert tier_names(read(VALID).path) == ("smoke", "release")
    path = tmp_path / "other.toml"
    assert tier_names(path) == ()
    for content in (b"tiers = 3", b"[tiers", b"\xff", b""):
        path.write_bytes(content)
        assert tier_names(path) == ()
