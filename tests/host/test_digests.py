import dataclasses
from pathlib import Path
from types import MappingProxyType

import pytest

from harness.host.digests import digest_from_json
from harness.registry import model_spec
from harness.spec import InputProtocol, Status


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    where: Path


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"a": 1, "b": [2.5, None]}, {"b": [2.5, None], "a": 1}),
        ((1, 2), [1, 2]),
        (Path("a/b"), "a/b"),
        (Point(1, Path("p")), {"x": 1, "where": "p"}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Status.PASS, "pass"),
    ],
)
def test_equal_values_have_one_digest(one, same):
    assert digest_from_json(one) == digest_from_json(same)
    assert len(digest_from_json(one)) == 64


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1}, {"a": 2}), ([1, 2], [2, 1]), ("1", 1), (1, 1.5), (None, ""), ("ab", ["a", "b"])],
)
def test_different_values_have_different_digests(one, other):
    assert digest_from_json(one) != digest_from_json(other)


def test_a_change_of_a_protocol_changes_its_digest():
    protocol = model_spec("timesformer").protocol
    assert isinstance(protocol, InputProtocol)
    other = dataclasses.replace(protocol, frame_interval=31)
    assert digest_from_json(protocol) != digest_from_json(other)


@pytest.mark.parametrize("value", [{1, 2}, object(), Point])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(TypeError, match="has no canonical form"):
        digest_from_json({"key": value})
