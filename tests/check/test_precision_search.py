import itertools
import math

import numpy as np
import pytest

from harness.check.precision_search import Trial, smallest_keep

OPERATORS = tuple(f"/op{number}" for number in range(100))


class Builds:
    """A model whose named operators overflow in fp16; it says which is first wrong, or does not."""

    def __init__(self, needed, operators=OPERATORS, suspect=lambda left: None):
        self.needed, self.operators, self.suspect = needed, operators, suspect
        self.asked = []

    def __call__(self, keep):
        self.asked.append(keep)
        left = [name for name in self.operators if name in self.needed and name not in keep]
        return Trial(keep, not left, "", self.suspect(left), self.operators)


def first(left):
    return left[0] if left else None


@pytest.mark.parametrize("count", [4, 5, 17, 64, 100, 400])
def test_one_name_is_found_by_bisection_within_the_bound(count):
    operators = tuple(f"/op{number}" for number in range(count))
    for needed in operators[:: max(1, count // 9)]:
        builds = Builds({needed}, operators)
        assert smallest_keep(builds).keep == (needed,)
        assert len(builds.asked) <= 2 * math.log2(count) + 2


def test_what_is_first_wrong_is_tried_first():
    builds = Builds({"/op37"}, suspect=first)
    found = smallest_keep(builds)
    assert found.keep == ("/op37",)
    assert builds.asked == [(), ("/op37",)]
    assert [trial.is_met for trial in found.trials] == [False, True]


def test_a_wrong_suspect_costs_one_build():
    builds = Builds({"/op70"}, suspect=lambda left: "/op3")
    assert smallest_keep(builds).keep == ("/op70",)
    assert len(builds.asked) <= 2 * math.log2(100) + 2


def test_every_name_of_the_list_is_needed():
    random = np.random.default_rng(2)
    for count, guided in itertools.product((2, 3, 5), (None, first)):
        needed = {OPERATORS[i] for i in random.choice(100, count, replace=False)}
        found = smallest_keep(Builds(needed, suspect=guided or (lambda left: None)))
        assert found.keep == tuple(name for name in OPERATORS if name in needed)


def test_nothing_is_built_twice():
    builds = Builds({"/op3", "/op50"}, suspect=lambda left: "/op3")
    smallest_keep(builds)
    assert len(set(builds.asked)) == len(builds.asked)


def test_without_a_need_nothing_is_kept_and_without_a_remedy_it_says_so():
    assert smallest_keep(Builds(set())).keep == ()
    found = smallest_keep(Builds({"/elsewhere"}, operators=("/a", "/b")))
    found_nothing = Builds({"/a"}, operators=())
    assert found.keep == ()
    assert smallest_keep(lambda keep: Trial(keep, False, "", None, ("/a", "/b"))).keep is None
    assert smallest_keep(found_nothing).keep == ()
