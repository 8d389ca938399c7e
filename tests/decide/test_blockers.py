"""What keeps a check from being signed off, by kind."""

import pytest

from harness.decide.blockers import Blocker, BlockerKind, blockers_of, tier_blocker, with_blockers
from harness.spec import Status
from tests import made

PART = made.measured("accuracy").model_copy(update={"is_whole": False})


@pytest.mark.parametrize(
    ("more", "kind", "text"),
    [
        ({"status": Status.INVALID}, BlockerKind.OUTCOME, "the outcome is invalid"),
        ({"weights": "seeded"}, BlockerKind.SEEDED, "seeded weights"),
        (
            {"check": "accuracy", "measurement": PART},
            BlockerKind.PARTIAL,
            f"accuracy on a subset of {PART.clip_count} clips",
        ),
        (
            {"is_emulated": True},
            BlockerKind.EMULATED,
            "an emulator answered in the device's place",
        ),
        ({"signoff_blockers": ("only half",)}, BlockerKind.PARTIAL, "only half"),
    ],
)
def test_each_blocker_has_its_kind_and_its_sentence_once(more, kind, text):
    green = {"status": Status.PASS, "is_device_present": True, "weights": "checkpoint"}
    record = made.record(**green | more)
    assert list(blockers_of(record)) == [Blocker(kind=kind, text=text)]
    kept = with_blockers(record)
    assert kept.signoff_blockers == (text,)
    assert list(blockers_of(kept)) == [Blocker(kind=kind, text=text)]


def test_what_passed_with_a_checkpoint_on_a_device_is_blocked_by_nothing():
    assert (
        with_blockers(made.record(status=Status.PASS, is_device_present=True)).signoff_blockers
        == ()
    )


def test_another_tier_is_a_part_of_what_was_asked_for_unless_nothing_was_tried():
    record = made.record()
    assert tier_blocker(record, record.tier) is None
    assert tier_blocker(made.record(status=Status.NOT_RUN), "release") is None
    found = tier_blocker(record, "release")
    assert (found.kind, found.text.partition(",")[0]) == ("partial", "run in the smoke tier")
