"""One offline model for several batch sizes, of which a session sets one."""

import dataclasses
import hashlib

import numpy as np
import pytest

from harness.check.onnx_divergence import Allowed, first_divergent_operator
from harness.errors import BuildError, RunError
from harness.host.digests import digest_from_json, plain_fields
from harness.precision import Precision
from harness.runtimes.ascend.environment import PinnedOm
from harness.runtimes.ascend.passport import passport_from_text, passport_problems, shape_options
from harness.runtimes.ascend.precision import check_precision
from harness.timings import LoopSettings

GEARS = (1, 3, 4)
LOOP = LoopSettings(5, 7, 0.0)


def geared(bench, make, batch, gears=GEARS):
    spec = dataclasses.replace(make.tiny_spec(), gears=gears)
    return make.tiny_onnx(bench.folder, spec, batch)


def feeds_of(make, onnx, count=3):
    return [make.random_feed(onnx, seed) for seed in range(count)]


def test_one_build_serves_every_batch_size(bench, make, generation):
    model = bench.built(geared(bench, make, 3))
    assert model.artifact.path.name == "tsm_tiny_bs3.om"
    command = model.artifact.provenance["command"]
    assert "--input_shape=video:-1,1,3,4,4" in command
    assert command[-1] == "--dynamic_batch_size=1,3,4"
    assert "--output=tsm_tiny_gears1_3_4" in command
    passport = model.artifact.provenance["passport"]
    assert passport["command"].endswith("--dynamic_batch_size=1,3,4")
    assert passport["ai_cpu_operators"] == []


@pytest.mark.parametrize("streaming", [True, False], ids=["InferSession", "files"])
@pytest.mark.parametrize("batch", GEARS)
def test_a_gear_computes_what_onnx_runtime_does(bench, make, generation, batch, streaming):
    onnx = geared(bench, make, batch)
    session = bench.device(streaming=streaming).open(bench.built_before(onnx))
    feeds = feeds_of(make, onnx)
    outputs = list(session.run_many(feeds))
    times = session.loop(feeds[0], LOOP)
    session.close()
    assert len(times.device_ms) == 7
    for feed, output in zip(feeds, outputs, strict=True):
        np.testing.assert_allclose(output["class"], make.expected_output(onnx, feed), rtol=1e-6)


@pytest.mark.parametrize("streaming", [True, False], ids=["InferSession", "files"])
def test_a_model_without_the_gear_is_told(bench, make, generation, streaming):
    bench.fault("atc_lost_gear")
    onnx = geared(bench, make, 4)
    model = bench.built(onnx)
    with pytest.raises(
        RunError, match=r"no gear of this batch size.*the dymBatch parameter is not"
    ):
        bench.device(streaming=streaming).open(model).run(make.random_feed(onnx))


@pytest.mark.parametrize("streaming", [True, False], ids=["InferSession", "files"])
def test_a_run_that_does_not_set_the_gear_is_refused(bench, make, generation, streaming):
    onnx = geared(bench, make, 3)
    forgetful = dataclasses.replace(onnx, spec=dataclasses.replace(onnx.spec, gears=()))
    model = dataclasses.replace(bench.built_before(onnx), onnx=forgetful)
    with pytest.raises(RunError, match=r"takes .* 768.*rebuild it|in batches of 4, not of 3"):
        bench.device(streaming=streaming).open(model).run(make.random_feed(onnx))


def test_a_timed_run_that_does_not_set_the_gear_is_refused(bench, make, generation):
    onnx = geared(bench, make, 3)
    forgetful = dataclasses.replace(onnx, spec=dataclasses.replace(onnx.spec, gears=()))
    model = dataclasses.replace(bench.built_before(onnx), onnx=forgetful)
    session = bench.device(streaming=False).open(model)
    with pytest.raises(RunError, match="in batches of -1, not of 3"):
        session.loop(make.random_feed(onnx), LOOP)
    session.close()


def test_rows_of_another_gear_differ(bench, make, generation):
    bench.fault("bench_other_gear")
    onnx = geared(bench, make, 3)
    session = bench.device().open(bench.built_before(onnx))
    feed = make.random_feed(onnx)
    rows = session.run(feed)["class"]
    session.close()
    expected = make.expected_output(onnx, feed)
    np.testing.assert_allclose(rows[0], expected[0], rtol=1e-6)
    assert not np.allclose(rows[1:], expected[1:], atol=0.1)


@pytest.mark.parametrize("batch", GEARS)
def test_the_first_wrong_operator_of_a_gear_has_the_name_of_its_nodes(
    bench, make, generation, monkeypatch, batch
):
    onnx = make.video_model(bench.folder, batch, GEARS)
    model, feed = bench.built_before(onnx), make.random_feed(onnx)

    def wrong():
        with bench.device().inside(model, feed) as inside:
            assert not inside.note
            return first_divergent_operator(onnx.artifact.path, inside, feed, Allowed(0.02, 3.0))

    assert wrong() is None
    monkeypatch.setenv("EMULATOR_WRONG", "/body/Conv/body/Relu")
    assert wrong().operator.name == "/body/Conv/body/Relu"


def test_the_passport_is_held_to_the_gears(bench, make):
    one, all_three, two = (geared(bench, make, 4, gears) for gears in ((), GEARS, (1, 4)))
    given = {
        "one": passport_from_text(PASSPORT.format("--input_shape=video:4,1,3,4,4")),
        "gears": passport_from_text(
            PASSPORT.format("--input_shape=video:-1,1,3,4,4 --dynamic_batch_size=1,3,4")
        ),
        "none": passport_from_text(PASSPORT.format("")),
    }

    def problems(passport, onnx):
        return list(passport_problems(given[passport], "Ascend310P3", shape_options(onnx), "fp16"))

    assert problems("one", one) == problems("gears", all_three) == problems("none", one) == []
    assert problems("gears", two) == ["its batch sizes are 1,3,4, not 1,4"]
    assert problems("gears", one) == [
        "its input is video:-1,1,3,4,4, not video:4,1,3,4,4",
        "its batch sizes are 1,3,4, not one",
    ]
    assert len(problems("one", all_three)) == len(problems("none", all_three)) == 2


PASSPORT = """
============ Display Model Info start ============
Original Atc command line: atc.bin --framework=5 {} --soc_version=Ascend310P3
system   info: atc_version[7.6.0.1.220], soc_version[Ascend310P3], framework_type[Onnx].
============ Display Model Info end   ============
"""


def test_a_foreign_model_may_serve_a_gear(bench, make):
    onnx = geared(bench, make, 4)
    made = bench.built_before(onnx).artifact.path
    theirs = bench.folder / "theirs.om"
    theirs.write_bytes(made.read_bytes())
    pinned = PinnedOm(om=theirs, sha256=hashlib.sha256(theirs.read_bytes()).hexdigest())

    def device(cell, precision, name):
        plain = bench.device(models={f"tsm_tiny-ascend310p-{cell}": pinned})
        return plain.in_precision(precision, name) if precision else plain

    gears = device("bs4-gears", Precision(gears=GEARS), "gears")
    assert bench.built(onnx, gears).artifact.provenance["passport"]["is_foreign"]
    with pytest.raises(BuildError, match="its batch sizes are 1,3,4, not one"):
        bench.built(make.tiny_onnx(bench.folder, batch=4), device("bs4", None, ""))
    with pytest.raises(BuildError, match="it computes in fp16, not in origin"):
        bench.built(onnx, device("bs4-other", Precision("origin", gears=GEARS), "other"))


@pytest.mark.parametrize("gears", [(4,), (4, 1), (1, 1, 4)])
def test_gears_that_atc_does_not_take_are_refused(gears):
    with pytest.raises(BuildError, match="name 2 to 100 batch sizes, the smallest first"):
        check_precision(Precision(gears=gears), "Ascend310P3")


def test_a_shape_without_an_open_batch_is_refused_by_atc(bench, make):
    onnx = geared(bench, make, 4)
    words = (*onnx.spec.atc[:4], "--input_shape=video:4,1,3,4,4", *onnx.spec.atc[5:])
    onnx = dataclasses.replace(onnx, spec=dataclasses.replace(onnx.spec, atc=words))
    with pytest.raises(BuildError, match="E10031"):
        bench.built(onnx)


def test_the_gears_are_part_of_what_shapes_a_build(bench, make):
    onnx = geared(bench, make, 4)
    one, other, plain = (
        bench.device().in_precision(Precision(gears=gears)).shaped_by(onnx)["precision"]
        for gears in (GEARS, (1, 4), ())
    )
    assert len({digest_from_json(value) for value in (one, other, plain)}) == 3
    assert digest_from_json(plain) == digest_from_json({**plain_fields(Precision())})
