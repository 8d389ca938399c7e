"""Recorded sentences in other languages: each kind of clause has an entry, and keeps what stands in it."""

import ast
import functools
import re
from pathlib import Path

import pytest

import harness
from harness.judge.verdict import at_least
from harness.language import ENGLISH, LANGUAGES, catalogue, speaking
from harness.locale.recorded import RECORDED, split_outside_brackets, translated
from tests.test_language import WORDS, places

ROOT = Path(harness.__file__).parent
OTHERS = [name for name in LANGUAGES if name != ENGLISH]
# What these modules say goes into records, or is said beside them.
SAYING = (
    *("judge", "check", "decide/blockers.py", "decide/problems.py", "decide/rejudge.py"),
    *("decide/waivers.py", "report/decision.py", "report/lines.py"),
    *("measure/accuracy.py", "measure/parity.py", "measure/soak.py", "measure/startup.py"),
    *("measure/throughput.py", "measure/timing.py"),
    *("nightly/comparison.py", "nightly/absences.py", "nightly/gate.py", "contract/floor_lint.py"),
    *("build/onnx_check.py", "build/input_check.py", "host/clocks.py", "runtimes/ort/device.py"),
    *("report/guide.py", "runtimes/ascend/probe.py"),
    *("runtimes/ascend/start.py", "runtimes/ascend/session.py"),
    *("sign/bundle.py", "sign/verify.py", "sign/evidence.py", "sign/envelope.py"),
)
# Limits are a person's input, and three commands print what they find as they go.
SAYING_ELSEWHERE = (
    *("judge/limits.py", "check/model_check.py", "check/mmaction2_pipeline.py"),
    "check/precision_trials.py",
)
# Of the rest of the suite, what ends a check without a measurement.
OUTCOMES = {"MissingInput", "DeviceAbsent", "InvalidMeasurement", "DeviceBroken"}
OUTCOMES |= {"ExportError", "SimplifyError", "BuildError", "DecodeError", "RunError"}
NOT_OF_A_CHECK = (
    "cli",
    "selftest",
    "testing.py",
    "contract/calibrate.py",
    "check/mmaction2_pipeline.py",
)
# Errors of a person's input stay English, and so do those of the suite itself.
UNRECORDED = {"ThresholdsError", "RecordError", "HistoryError", "TypeError", "ValueError"}
# Titles of progress, types, and words that have an entry without a context, or stand in a file.
NO_CLAUSE = {
    *("{} parity", "{} timed session {}", "{} start {}", "{} soak", "{} soak: stopped"),
    *("{}, {} of {} min: {}", "clips a processor second", "known inputs {}", "second reading {}"),
    *("Array | None", "# no [[waivers]] is needed any more"),
}


def shape(text):
    return re.sub(r"\{[^{}]*\}", "{}", text).strip(" ,;:")


def shapes(text):
    """Return the shape of each clause of a template that has words of its own."""
    for clause in split_outside_brackets(text, "; "):
        bare = shape(clause)
        bare = shape(bare[1:-1]) if re.fullmatch(r"\([^()]*\)", bare) else bare
        if re.search("[A-Za-z]{2}", bare.replace("{}", "")) and re.search(r"\s", bare):
            yield bare


def template(node):
    if isinstance(node, ast.Constant):
        return node.value
    return "".join(one.value if isinstance(one, ast.Constant) else "{}" for one in node.values)


def texts(tree):
    """Yield every text and f-string but docstrings, parts of f-strings and errors of ``UNRECORDED``."""
    silent = {id(leaf) for node in ast.walk(tree) if is_silent(node) for leaf in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            silent |= {id(one) for one in node.values}
            silent |= {id(one.format_spec) for one in node.values if hasattr(one, "format_spec")}
        is_text = isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)
        if is_text and id(node) not in silent:
            yield template(node)


def is_silent(node):
    name = getattr(getattr(node, "func", None), "id", "")
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or name in UNRECORDED


def modules(names):
    return {
        path
        for name in names
        for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    }


@functools.cache
def parsed(path):
    return ast.parse(path.read_text("utf-8"))


def texts_of_records():
    for path in modules(SAYING) - modules(SAYING_ELSEWHERE):
        yield from texts(parsed(path))
    for path in modules(["."]) - modules(NOT_OF_A_CHECK):
        for node in ast.walk(parsed(path)):
            if getattr(getattr(node, "func", None), "id", "") in OUTCOMES and node.args:
                yield from texts(node.args[0])


def clauses_of(texts):
    return {one for text in texts for one in shapes(text)}


@pytest.mark.parametrize("name", OTHERS)
def test_no_clause_of_a_record_is_missing(name):
    known = clauses_of(catalogue(name, RECORDED)) | WORDS | NO_CLAUSE
    assert sorted(clauses_of(texts_of_records()) - known) == []


@pytest.mark.parametrize("name", OTHERS)
def test_no_entry_is_left_over(name):
    said = clauses_of(text for path in modules(["."]) for text in texts(parsed(path)))
    assert sorted(clauses_of(catalogue(name, RECORDED)) - said) == []


@pytest.mark.parametrize("name", OTHERS)
def test_an_entry_has_the_places_of_its_clause(name):
    entries = catalogue(name, RECORDED)
    assert [text for text, said in entries.items() if places(text) != places(said)] == []
    # Without a word of its own it would fit what others said.
    assert [
        text for text in entries if "; " in text or not re.search("[A-Za-z]", shape(text))
    ] == []


def test_a_template_without_an_entry_is_found():
    code = "def f(n):\n    '''It is a docstring.'''\n    return fail(f'{n} clips are {n:.2f} too blue')"
    assert clauses_of(texts(ast.parse(code))) == {"{} clips are {} too blue"}


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        (at_least("mean speed", 1.5, 2.0, "clips/s").text, "平均速度为 1.5 片段/秒，应 >= 2"),
        (at_least("cosine of a/b", None, 0.9).text, "cosine of a/b 为未定义，应 >= 0.9"),
        # A clause with a comma of its own in a list, then one that ends at a semicolon.
        (
            "3 session(s), threads were not looked at, as there is one processor; and so on",
            "3 个会话，只有一个处理器，没有检查线程；and so on",
        ),
        (
            "stretch 2: the timed queries did not compute what untimed ones compute; b (c) and 4 more",
            "第 2 段：计时的查询与不计时的计算结果不同；b (c)，以及另外 4 项",
        ),
        # What stands in brackets is said with them, and never torn from them.
        (
            "passes though it is waived: remove the waiver (https://a/1, owner A. Zhang, until 2027-01-31)",
            "虽已豁免却通过：请删除该豁免（https://a/1，负责人 A. Zhang，有效期至 2027-01-31）",
        ),
        (" (contract: 3)", "（合同：3）"),
        ("constant output: the same scores for all 5 clips", "输出恒定：全部 5 个片段的得分相同"),
    ],
)
def test_a_sentence_is_put_together_again(recorded, said):
    assert translated(recorded) == recorded
    with speaking("zh"):
        assert translated(recorded).strip() == said


@pytest.mark.parametrize(
    "name",
    ["clip one/two.mp4", "sha256:0f3c", "a (b", "a, b: c (d)", "{n} {word}", "E10016: no such op"],
)
def test_what_the_suite_did_not_say_stays(name):
    with speaking("zh"):
        assert translated(name) == name
        assert translated(f"no result for it: {name}") == f"no result for it: {name}"
        assert translated(f"wrong shape: {name}") == f"形状错误：{name}"


def test_a_text_of_any_length_ends_soon():
    with speaking("zh"):
        for text in (
            "a (" * 1300,
            "x is 1, must be " * 240,
            "(" * 3999,
            "1 to 2, " * 490,
            "; " * 2000,
        ):
            assert len(translated(text)) > 0
        long = "the clock went back 1 s during a query; " * 200
        assert translated(long) == long
