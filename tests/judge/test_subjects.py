import pytest

from harness.judge.subjects import chip_problem, inputs_problem, weights_problem

KNOWN, OTHER = "4d340936" + "0" * 56, "beef" * 16


@pytest.mark.parametrize("wanted", [None, "4d340936", KNOWN])
def test_the_contract_s_checkpoint_is_accepted(wanted):
    assert weights_problem("m", wanted, KNOWN) is None


def test_another_checkpoint_is_refused_with_the_line_to_paste():
    text = weights_problem("m", "4d340936", OTHER)
    assert text.endswith(f'below [models.m]: weights = "{OTHER}"')


@pytest.mark.parametrize(("wanted", "seen"), [(None, None), (None, KNOWN), (KNOWN, KNOWN)])
def test_the_contract_s_inputs_are_accepted(wanted, seen):
    assert inputs_problem(wanted, seen) is None


@pytest.mark.parametrize(("seen", "shown"), [(None, "none"), (OTHER, OTHER)])
def test_inputs_that_were_not_compared_or_with_other_answers_are_refused(seen, shown):
    text = inputs_problem(KNOWN, seen)
    assert f"theirs are 4d34093600000000, the record has {shown}; run the check again" in text


@pytest.mark.parametrize(
    ("wanted", "chip"), [(None, None), (None, "NVIDIA H200"), ("T4", "Tesla T4"), ("T4", "T4")]
)
def test_the_golden_s_chip_is_accepted(wanted, chip):
    assert chip_problem(wanted, chip) is None


@pytest.mark.parametrize("chip", ["NVIDIA H200", "NVIDIA T4G", "Tesla T4 or NVIDIA H200", None])
def test_the_speed_of_another_chip_is_refused(chip):
    text = chip_problem("T4", chip)
    assert f"of the chip T4, and this one is {chip or 'unknown'}: " in text
