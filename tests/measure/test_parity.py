import json

import numpy as np
import pytest

from harness.errors import RecordError
from harness.measure.parity import (
    CHAIN,
    ChainScores,
    EdgeParity,
    InputCounts,
    ParityMeasurement,
    edge_parity,
    parity_measurement,
    row_ids_from_inputs,
)
from harness.measure.scores import (
    is_constant,
)

METRICS = (
    "max_abs_error",
    "p999_abs_error",
    "relative_l2",
    "cosine",
    "top1_agreement",
    "top5_overlap",
    "rmse_actual_to_exact",
)


@pytest.fixture
def exact():
    return np.random.default_rng(1).normal(0.0, 2.0, size=(64, 40))


@pytest.fixture
def expected(exact):
    return exact.astype(np.float32)


def edge(actual, expected, exact, **more):
    return edge_parity(actual, expected, exact, "torch_to_onnx", **more)


def test_the_same_scores_agree_in_everything(exact, expected):
    parity = edge(expected, expected, exact)
    assert (parity.max_abs_error, parity.p999_abs_error, parity.relative_l2) == (0.0, 0.0, 0.0)
    assert (parity.top1_agreement, parity.top5_overlap, parity.flips) == (1.0, 1.0, ())
    assert parity.cosine == pytest.approx(1.0, abs=1e-12)
    assert parity.rmse_actual_to_exact == parity.rmse_expected_to_exact > 0.0
    assert (parity.row_count, parity.class_count) == (64, 40)
    assert not parity.is_constant


def test_errors_by_hand():
    expected = np.array([[3.0, 1.0, -4.0], [0.0, 2.0, -2.0]])
    actual = expected + np.array([[0.0, 0.5, 0.0], [0.0, 0.0, -0.25]])
    parity = edge(actual, expected, expected - 0.1)
    assert parity.max_abs_error == parity.p999_abs_error == 0.5
    assert parity.relative_l2 == pytest.approx(np.sqrt(0.3125) / np.sqrt(9 + 1 + 16 + 4 + 4))
    assert parity.rmse_expected_to_exact == pytest.approx(0.1)
    assert parity.rmse_actual_to_exact == pytest.approx(
        np.sqrt((4 * 0.1**2 + 0.6**2 + 0.15**2) / 6)
    )


def test_p999_sets_aside_one_in_a_thousand(exact):
    actual = exact.copy()
    actual[0, :2] += [5.0, 1.0]
    parity = edge(actual, exact, exact)
    assert parity.max_abs_error == pytest.approx(5.0)
    assert parity.p999_abs_error == pytest.approx(0.0)


def test_float32_noise_is_told_apart_in_float64(exact):
    parity = edge(exact + 1e-12, exact, exact)
    assert parity.max_abs_error == pytest.approx(1e-12, rel=0.1)


def test_a_later_edge_is_anchored_to_pytorch_and_not_to_the_stage_before(exact, expected):
    coarse = np.round(exact, 1)
    parity = edge(coarse, coarse, exact, reference=expected)
    assert parity.rmse_actual_to_exact > 1e5 * parity.rmse_expected_to_exact


def test_flips_name_the_row_and_the_margin():
    expected = np.array([[2.0, 1.5, 0.0], [0.0, 1.0, 5.0]])
    parity = edge(expected[:, [1, 0, 2]], expected, expected, row_ids=["a#crop0", "b#crop0"])
    assert parity.top1_agreement == 0.5
    (flip,) = parity.flips
    assert flip.model_dump() == {
        "row_id": "a#crop0",
        "expected_class": 0,
        "actual_class": 1,
        "margin": 0.5,
    }


def test_a_single_class_has_no_margin():
    scores = np.array([[1.0], [2.0]])
    assert edge(scores, scores, scores).top1_agreement == 1.0


def test_top5_overlap_counts_classes_in_common():
    expected = np.arange(10.0)[None, :]
    actual = expected.copy()
    actual[0, 0] = 7.5
    assert edge(actual, expected, expected).top5_overlap == 0.8


def test_only_the_five_best_count_for_their_overlap():
    expected = np.arange(12.0)[None, :]
    actual = expected.copy()
    actual[0, :7] = actual[0, 6::-1]
    assert edge(actual, expected, expected).top5_overlap == 1.0
    assert edge(-actual, -expected, -expected).top5_overlap == 0.6


def test_of_two_classes_the_margin_is_their_difference():
    expected = np.array([[2.0, 0.5], [0.0, 1.0]])
    (flip,) = edge(expected[:1].repeat(2, axis=0), expected, expected).flips
    assert (flip.row_id, flip.margin) == ("1", 1.0)


def test_reversed_classes_disagree(exact):
    parity = edge(exact[:, ::-1], exact, exact)
    assert parity.cosine < 0.0
    assert parity.top1_agreement < 0.2


def test_the_offset_of_log_probabilities_hides_no_disagreement():
    rng = np.random.default_rng(2)
    first, second = rng.normal(-6.0, 0.01, size=(2, 8, 400))
    assert np.vdot(first, second) / np.linalg.norm(first) / np.linalg.norm(second) > 0.99999
    parity = edge(first, second, second)
    assert parity.cosine < 0.2
    assert parity.relative_l2 > 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_is_counted_and_leaves_no_metric(exact, bad):
    actual = exact.copy()
    actual[3, :2] = bad
    parity = edge(actual, exact, exact)
    assert parity.nonfinite_count == 2
    assert [getattr(parity, name) for name in METRICS] == [None] * len(METRICS)
    assert not parity.is_constant


def test_fp16_overflow_is_nonfinite(exact):
    with np.errstate(over="ignore"):
        actual = (exact * 1e5).astype(np.float16)
    assert edge(actual, exact * 1e5, exact * 1e5).nonfinite_count > 0


def test_a_broken_reference_is_not_blamed_on_the_stage(exact):
    broken = exact.copy()
    broken[0, 0] = np.nan
    parity = edge(exact, broken, exact)
    assert (parity.nonfinite_count, parity.expected_nonfinite_count) == (0, 2)
    assert edge(exact, exact, broken).expected_nonfinite_count == 1


@pytest.mark.parametrize(
    "constant",
    [
        np.zeros((4, 5)),
        np.full((4, 5), -6.0),
        np.tile(np.arange(5.0), (4, 1)),
        np.repeat(np.arange(4.0)[:, None], 5, axis=1),
        np.tile(np.arange(5.0), (4, 1)) + np.linspace(0, 1e-7, 20).reshape(4, 5),
        np.ones((1, 5)),
    ],
    ids=["zeros", "uniform", "same row", "flat rows", "same row but for rounding", "one flat row"],
)
def test_constant_outputs(constant):
    other = np.random.default_rng(3).normal(size=constant.shape)
    parity = edge(constant, other, other)
    assert parity.is_constant
    assert not parity.is_expected_constant


def test_one_row_that_says_something_is_not_constant():
    assert not is_constant(np.arange(5.0)[None, :])


def test_nothing_is_not_constant():
    assert not is_constant(np.zeros((0, 5)))


def test_a_flat_row_scores_zero_where_something_is_expected():
    expected = np.array([[1.0, 2.0], [3.0, 1.0]])
    actual = np.array([[1.0, 2.0], [2.0, 2.0]])
    assert edge(actual, expected, expected).cosine == 0.0


def test_a_row_of_which_nothing_is_expected_does_not_count():
    rows = np.array([[1.0, 2.0], [2.0, 2.0]])
    assert edge(rows, rows, rows).cosine == pytest.approx(1.0)


def test_flat_expectations_define_no_cosine():
    flat = np.array([[0.1, 0.1, 0.1], [2.0, 2.0, 2.0]])
    parity = edge(flat, flat, flat)
    assert parity.cosine is None
    assert parity.relative_l2 is None


@pytest.mark.parametrize(
    ("shape", "expected_shape"),
    [((1, 40), (64, 40)), ((64, 39), (64, 40)), ((64,), (64, 40)), ((), (64, 40))],
)
def test_other_shapes_are_named_and_never_broadcast(shape, expected_shape):
    expected = np.zeros(expected_shape)
    parity = edge(np.zeros(shape), expected, expected)
    assert str(shape) in parity.shape_mismatch
    assert str(expected_shape) in parity.shape_mismatch
    assert parity.max_abs_error is None


def test_another_shape_of_the_exact_scores_is_named(exact):
    assert "(63, 40)" in edge(exact, exact, exact[1:]).shape_mismatch
    found = edge(exact, exact, exact, reference=exact[:, 1:])
    assert found.shape_mismatch.endswith("reference (64, 40) and (64, 39)")
    assert (found.row_count, found.class_count) == (64, 40)


def test_nothing_to_compare_is_named():
    empty = np.zeros((0, 40))
    assert "no scores" in edge(empty, empty, empty).shape_mismatch


def chain(exact, **stages):
    reference = exact.astype(np.float32)
    scores = dict.fromkeys(("torch", "onnx", "simplified", "device"), reference) | stages
    return ChainScores(exact=exact, **scores)


def ids(count):
    return [f"clip{number}" for number in range(count)]


def test_the_chain_has_all_edges_in_order(exact):
    parity = parity_measurement(chain(exact), ids(64), InputCounts(clip=60, noise=3, constant=1))
    assert tuple(edge.name for edge in parity.edges) == CHAIN
    assert parity.input_counts.total == 64


def test_a_broken_stage_shows_on_its_own_edge(exact):
    bent = exact.astype(np.float32) + np.linspace(0, 1, 40, dtype=np.float32)
    parity = parity_measurement(
        chain(exact, simplified=bent, device=bent), ids(64), InputCounts(clip=64)
    )
    errors = {edge.name: edge.max_abs_error for edge in parity.edges}
    assert errors["torch_to_onnx"] == errors["simplified_to_device"] == 0.0
    assert errors["onnx_to_simplified"] == errors["torch_to_device"] == pytest.approx(1.0)


def test_every_edge_of_the_chain_is_anchored_to_pytorch(exact):
    coarse = np.round(exact, 1).astype(np.float32)
    stages = dict.fromkeys(("onnx", "simplified", "device"), coarse)
    parity = parity_measurement(chain(exact, **stages), ids(64), InputCounts(clip=64))
    assert [edge.rmse_actual_to_exact for edge in parity.edges] == pytest.approx([0.029] * 4, 0.1)
    assert len({edge.rmse_expected_to_exact for edge in parity.edges}) == 1


def test_flipped_rows_name_clip_and_crop(exact):
    device = exact.astype(np.float32)
    device[4] = device[4, ::-1]
    parity = parity_measurement(chain(exact, device=device), ids(32), InputCounts(clip=32))
    assert parity.edges[-1].flips[0].row_id == "clip2#crop0"
    one = parity_measurement(
        chain(exact, device=device), ids(1), InputCounts(clip=1), clip_count=32
    )
    assert (one.edges[-1].flips[0].row_id, one.clip_count) == ("clip0#clip4#crop0", 32)


def test_rows_of_one_crop_are_named_by_their_input():
    assert row_ids_from_inputs(["a", "b"], 1) == ("a", "b")
    assert row_ids_from_inputs(["a"], 2) == ("a#crop0", "a#crop1")
    assert row_ids_from_inputs(["a"], 2, 2) == ("a#clip0", "a#clip1")
    both = row_ids_from_inputs(["a"], 6, 3)
    assert both[2:4] == ("a#clip2#crop0", "a#clip0#crop1")
    assert row_ids_from_inputs(["a"], 2, 3) == ("a#crop0", "a#crop1")


def test_json_round_trip(exact):
    device = exact.astype(np.float32)[::-1].copy()
    parity = parity_measurement(chain(exact, device=device), ids(64), InputCounts(clip=64))
    assert ParityMeasurement.model_validate_json(parity.model_dump_json()) == parity
    json.loads(parity.model_dump_json(), parse_constant=pytest.fail)


def test_another_schema_is_an_error_that_names_the_source():
    with pytest.raises(RecordError, match=r"parity\.json is not a valid ParityMeasurement"):
        ParityMeasurement.from_json('{"edges": []}', "parity.json")
    good = EdgeParity(name="torch_to_onnx", row_count=1, class_count=2)
    assert EdgeParity.from_json(good.model_dump_json()) == good


def test_measurements_hold_no_nan():
    with pytest.raises(ValueError, match="finite"):
        EdgeParity(name="torch_to_onnx", row_count=1, class_count=2, cosine=float("nan"))
