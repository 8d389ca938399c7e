import json

import pytest

from harness.errors import RunError
from harness.host.command import CommandResult
from harness.runtimes.ascend.environment import CannTools
from harness.runtimes.ascend.om_graph import Origin, operators_from_json, operators_of_om


def attribute(name, value):
    return {"key": name, "value": value}


def operator(name, *attributes, kind="Relu", outputs=1, number=0, inputs=(), own=()):
    desc = {"dtype": "DT_FLOAT16", "shape": {"dim": [2, 16]}, "attr": list(own)}
    return {
        "name": name,
        "type": kind,
        "id": number,
        "attr": list(attributes),
        "input": list(inputs),
        "output_desc": [desc] * outputs,
    }


def read(*operators):
    return operators_from_json(json.dumps({"graph": [{"op": list(operators)}]}))


def names(*texts):
    return attribute("_datadump_original_op_names", {"list": {"s": list(texts), "val_type": 1}})


def test_an_operator_without_the_attribute_is_the_node_of_its_name():
    (found,) = read(operator("/a/Relu", outputs=2, inputs=["x:0", "/b:-1", "y:1"]))
    assert found.nodes == ("/a/Relu",)
    assert found.origins == (Origin("/a/Relu", 0), Origin("/a/Relu", 1))
    assert found.inputs == (("x", 0), ("y", 1))
    assert (found.dtype, found.nbytes) == ("float16", 128)


def test_a_fused_operator_gives_what_its_last_node_does():
    passes = attribute("pass_name", {"list": {"s": ["APass", "BPass"]}})
    (guessed,) = read(operator("CR", names("Conv_0", "Relu_1"), passes))
    assert (guessed.nodes, guessed.passes) == (("Conv_0", "Relu_1"), ("APass", "BPass"))
    assert guessed.origins == (Origin("Relu_1", 0, is_guess=True),)
    own = (
        attribute("_datadump_origin_name", {"s": "Split_3"}),
        attribute("_datadump_origin_output_index", {"i": 2}),
    )
    (told,) = read(operator("CR", names("Conv_0", "Split_3"), own=own))
    assert told.origins == (Origin("Split_3", 2),)


def test_what_the_compiler_made_and_inner_pieces_are_no_node():
    made = attribute("_datadump_original_op_names", {"list": {"val_type": 1}})
    inner = attribute("_datadump_is_multiop", {"b": True})
    cast, piece, data = read(
        operator("trans_Cast_0", made, kind="Cast"),
        operator("/lstm/piece", inner, names("/lstm"), number=1),
        operator("x", kind="Data", number=2),
    )
    assert (cast.nodes, cast.origins) == ((), (None,))
    assert (piece.nodes, piece.origins) == (("/lstm",), (None,))
    assert data.nodes == ()


def test_operators_come_in_the_order_in_which_they_run():
    found = read(operator("late", number=12), operator("early", number=3))
    assert [op.name for op in found] == ["early", "late"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"graph": [{"op": [{"name": "a"}]}]}'])
def test_another_json_is_an_error(text):
    with pytest.raises(RunError, match="the JSON of the offline model is not as expected"):
        operators_from_json(text)


def missing(command):
    raise FileNotFoundError("no such atc")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (missing, r"`atc --mode=1 --om=\S+/x\.om --json=\S+` cannot be started: no such atc"),
        (lambda _: CommandResult(255, "E10041", 0.1), "failed: E10041; log in"),
        (lambda _: CommandResult(0, "done", 0.1), r"did not write the graph of x\.om: .*om\.json"),
    ],
)
def test_a_model_that_atc_does_not_read_is_an_error(tmp_path, run, said):
    with pytest.raises(RunError, match=said):
        operators_of_om(tmp_path / "x.om", tmp_path, CannTools(run=run, logs=tmp_path), {})
