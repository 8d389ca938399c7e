from pathlib import Path

import pytest

import harness
from harness.contract.scope import refuse_unknown_cells, scope_from_options
from harness.contract.thresholds import thresholds_from_file
from harness.errors import InputError, SiteError
from harness.registry import load_site
from harness.spec import CHECKS, Cell

THRESHOLDS = Path(harness.__file__).parent.parent / "thresholds.toml"


@pytest.fixture(scope="module")
def thresholds():
    return thresholds_from_file(THRESHOLDS)


@pytest.fixture
def scope(thresholds):
    def build(expression="", **options):
        return scope_from_options(thresholds, expression=expression, **options)

    return build


def test_without_options_the_night_is_run(scope, thresholds):
    found = scope()
    assert (found.tier, found.named_devices) == ("nightly", frozenset())
    assert found.cells == thresholds.cells("nightly")
    assert len(found.required()) == len(set(found.required())) > 100


@pytest.mark.parametrize(
    ("expression", "tier"),
    [
        ("cpu", "nightly"),
        ("smoke", "smoke"),
        ("cpu and smoke", "smoke"),
        ("not (cpu and not release)", "release"),
        ("not release", "nightly"),
        ("cpu and not (smoke or release)", "nightly"),
        ("smoke or release", "nightly"),
        ("release and not smoke", "release"),
    ],
)
def test_an_expression_asks_for_a_tier_only_where_it_wants_it(scope, expression, tier):
    assert scope(expression).tier == tier


def test_the_option_goes_before_the_expression(scope):
    assert scope("smoke", tier="release").tier == "release"


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("", set()),
        ("parity", set()),
        ("ascend310p", {"ascend310p"}),
        ("ascend310p and not throughput", {"ascend310p"}),
        ("cpu or ascend310", {"cpu", "ascend310"}),
        ("not ascend310p", set()),
        ("cpu and not (ascend310p and throughput)", {"cpu"}),
        ("not not cuda", {"cuda"}),
        ("unknown", set()),
    ],
)
def test_an_expression_names_the_devices_that_it_wants(scope, expression, named):
    assert scope(expression).named_devices == named


def test_required_devices_are_named_too(scope):
    assert scope("cpu", required_devices=["cuda"]).named_devices == {"cpu", "cuda"}


@pytest.mark.parametrize("expression", ["cpu and", "(cpu", "cpu cuda", "and", "cpu=="])
def test_an_expression_that_is_none_is_shown(scope, expression):
    with pytest.raises(InputError, match="wrong expression passed to -m: "):
        scope(expression)


def test_only_what_the_expression_selects_is_required(scope):
    required = scope("cpu and export", tier="smoke").required()
    assert required == ("nonlocal_tiny-cpu-bs1:export", "timesformer_tiny-cpu-bs1:export")


def test_what_the_tier_does_not_require_is_not_required(scope):
    required = scope("cpu").required()
    assert "nonlocal_r50-cpu-bs1:parity" in required
    assert "nonlocal_r50-cpu-bs1:accuracy" not in required
    assert "nonlocal_tiny-cpu-bs1:accuracy" in required


def test_cells_are_narrowed_by_model_and_batch(scope):
    found = scope(models=["nonlocal_tiny"], batch_sizes=[4])
    assert {(cell.model, cell.batch) for cell in found.cells} == {("nonlocal_tiny", 4)}
    named = ("-bs4:", "-bs4-gears:")
    assert all(any(one in name for one in named) for name in found.required())
    assert set(scope(models=["nonlocal_tiny", "timesformer"]).cells) > set(found.cells)


def test_a_cell_bears_its_device_and_its_tiers(scope):
    found = scope()
    assert found.markers(Cell("nonlocal_tiny", "cpu", 1)) == ("cpu", "smoke", "nightly")
    assert found.markers(Cell("nonlocal_r50", "cpu", 1)) == ("cpu", "nightly", "release")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"models": ["resnet"]}, "no model resnet; there are: .*nonlocal_tiny"),
        ({"models": ["timesformer"], "tier": "smoke"}, "smoke has no model timesformer; there ar"),
        ({"batch_sizes": [3]}, "no batch size 3; there are: 1, "),
        ({"batch_sizes": [0]}, "no batch size 0; there are: 1, "),
        ({"tier": "yearly"}, "no tier 'yearly'; there are: smoke, nightly, .*release"),
        ({"required_devices": ["tpu"]}, "no device is called 'tpu'; there are: ascend310, "),
        (
            {"models": ["timesformer"], "batch_sizes": [64]},
            "no cell of timesformer at batch 64; there are: nonlocal_r50-cpu-bs1, ",
        ),
    ],
)
def test_what_is_unknown_is_listed(scope, options, words):
    with pytest.raises(InputError, match=words):
        scope(**options)


def test_absent_devices_excuse_their_checks_unless_somebody_named_them(scope):
    name = "nonlocal_tiny-ascend310p-bs1:parity"
    assert scope().is_excusable(name, {"ascend310p", "cuda"})
    assert not scope().is_excusable(name, {"cuda"})
    assert not scope().is_excusable(name, set())
    assert not scope("ascend310p").is_excusable(name, {"ascend310p"})
    assert not scope(required_devices=["ascend310p"]).is_excusable(name, {"ascend310p"})
    assert not scope().is_excusable("nonlocal_tiny-cpu-bs1:parity", {"ascend310p"})


def test_the_processor_is_never_excused(scope):
    assert not scope().is_excusable("nonlocal_tiny-cpu-bs1:parity", {"cpu", "ascend310p"})


@pytest.mark.parametrize(
    ("expression", "options", "idle"),
    [
        ("smoke and (cpu or cuda)", {}, "cuda"),
        ("cpu", {"required_devices": ["ascend310p"]}, "ascend310p"),
        ("", {"tier": "smoke", "required_devices": ["ascend310"]}, "ascend310"),
        ("cpu or cuda", {"batch_sizes": [8], "tier": "release"}, "cpu"),
    ],
)
def test_a_named_device_of_which_nothing_is_required_stays_open(scope, expression, options, idle):
    found = scope(expression, **options)
    pattern = f"*-{idle}-*:*"
    assert pattern in found.required()
    assert len(found.required()) > 1
    assert not found.is_excusable(pattern, {idle, "cuda"})


def test_every_marker_of_a_check_selects_it(scope):
    for check in CHECKS:
        required = scope(f"{check} and smoke").required()
        assert {name.partition(":")[2] for name in required} == {check}


def test_what_is_signed_is_measured_on_whole_sets(thresholds):
    assert thresholds.tier("release").clips == {}
    assert thresholds.tier("nightly").clips == {}


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("nonlocal_r50-ascend310p-bs4", None),
        ("nonlocal_tiny-ascend310p-bs4-gears", None),
        ("nonlocal_r50-ascend310p-bs2", "the nearest are: nonlocal_r50-ascend310p-bs"),
        ("nonlocal_r50-ascend310p-bs4-origin", ", nonlocal_r50-ascend310p-bs1"),
        ("nonlocal_r50-ascend910b-bs4", "nonlocal_r50-ascend310p-bs4, "),
    ],
)
def test_an_offline_model_for_no_cell_of_the_contract_is_refused(
    thresholds, tmp_path, cell, problem
):
    om, path = tmp_path / "x.om", tmp_path / "site.toml"
    om.touch()
    path.write_text(f"[ascend.models.{cell}]\nom = '{om}'\nsha256 = '{'0' * 64}'\n")
    site = load_site(path, {"HOME": str(tmp_path)})
    if problem is None:
        refuse_unknown_cells(site, thresholds)
        return
    with pytest.raises(SiteError) as told:
        refuse_unknown_cells(site, thresholds)
    key = f"{path}: ascend.models.{cell}: thresholds.toml has no such cell, so no check would use"
    assert str(told.value).startswith(key)
    assert problem in str(told.value)
