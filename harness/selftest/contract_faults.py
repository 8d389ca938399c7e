"""Faults of the contract: limits lowered, sources removed, waivers widened."""

import json
import re
from collections.abc import Callable, Iterable

from harness.selftest.faults import MODEL, Fault, NotPlanted, Trial
from harness.selftest.setting import Answer, Setting

Edit = Callable[[str], str]


def _replaced(pattern: str, new: str, count: int = 1) -> Edit:
    """Replace what a pattern matches, so many times, or each time if ``count`` is 0."""

    def edit(text: str) -> str:
        edited, found = re.subn(pattern, new, text, count=count)
        if not found:
            raise NotPlanted(f"the contract has nothing like {pattern!r}")
        return edited

    return edit


def _number(key: str, new: str) -> Edit:
    """Replace the first number that the contract gives for a key, whatever it is."""
    return _replaced(rf"\b{key} = [\d.e-]+", new)


def _without_key(key: str) -> Edit:
    """Leave out each line that gives a key."""
    return _replaced(rf"(?m)^(?:\w+\.)?{key} = .*\n", "", count=0)


def _read(edit: Edit) -> Trial:
    """Run a check with an edited contract; return all that was printed."""

    def trial(setting: Setting) -> Answer:
        setting.contract = edit(setting.contract)
        words = ("-m", f"{setting.device} and export", "--model", MODEL, "--tier", "selftest")
        return setting.pytest(*words, "--run-dir", str(setting.folder / "run"))

    return trial


def _signed_off(edit: Edit) -> Trial:
    """Sign a green run off by another contract than its own; return the reasons against it."""

    def trial(setting: Setting) -> Answer:
        setting.contract = edit((setting.clean_run / "thresholds.toml").read_text("utf-8"))
        out = setting.folder / "out"
        words = ("--output", str(out), "--thresholds", str(setting.contract_file()))
        answer = setting.harness("report", str(setting.clean_run), *words)
        release = json.loads((out / "signoff.json").read_text("utf-8"))
        reasons = [f"{one['kind']}: {one['text']}" for one in release["reasons"]]
        return Answer(answer.status, "\n".join([answer.said, *reasons]))

    return trial


def _waiver(check: str, expires: str = "2100-01-01", cell: str = f"{MODEL}-{{device}}-bs4") -> Edit:
    lines = f'reason = "r"\nissue = "i"\nowner = "o"\nexpires = {expires}\n'
    head = f'\n[[waivers]]\ncell = "{cell}"\ncheck = "{check}"\n'
    return lambda text: text + head.format(device=_device_of(text)) + lines


def _device_of(text: str) -> str:
    return text[text.index("[tiers.selftest]") :].split(f"{MODEL}-")[1].split("-bs4")[0]


_OTHER = "a run was judged by other thresholds"
_CONTRACT: tuple[tuple[str, str, str, Trial], ...] = (
    ("a source removed", "run", "source", _read(_replaced(', source = "fixtures"', ""))),
    ("a source that is not there", "run", "source", _read(_replaced('"fixtures"', '"hearsay"'))),
    (
        "a floor that everything reaches",
        "run",
        "floor",
        _read(_number("floor", "floor = 0.0")),
    ),
    (
        "a tolerance that everything meets",
        "run",
        "tolerance",
        _read(_number("tolerance", "tolerance = 1.0")),
    ),
    (
        "a limit of NaN",
        "run",
        "max_abs_error",
        _read(_number("max_abs_error", "max_abs_error = nan")),
    ),
    (
        "a limit as text",
        "run",
        "cosine",
        _read(_number("cosine", 'cosine = "0.99999"')),
    ),
    (
        "a key that is not known",
        "run",
        "tolerence",
        _read(_number("tolerance", "tolerence = 0.1")),
    ),
    (
        "nothing required",
        "run",
        "required",
        _read(_replaced(r'required = \["\*:\*"\]', "required = []")),
    ),
    ("a margin of every clip", "run", "margin", _read(_number("margin", "margin = 1.0"))),
    ("a waiver of all cells", "run", "cell", _read(_waiver("export", cell="*"))),
    ("a waiver of all checks", "run", "check", _read(_waiver("*"))),
    ("a waiver of what passes", "run", "passes though it is waived", _read(_waiver("export"))),
    ("a waiver that has expired", "run", "expired", _read(_waiver("export", "2020-01-01"))),
    ("a waiver without a last day", "run", "expires", _read(_waiver("export", '""'))),
    ("a floor lowered", "report", _OTHER, _signed_off(_number("floor", "floor = 0.5"))),
    (
        "a limit of parity loosened",
        "report",
        _OTHER,
        _signed_off(_number("relative_l2", "relative_l2 = 0.1")),
    ),
    (
        "the digest of the clips removed",
        "report",
        _OTHER,
        _signed_off(_without_key("digest")),
    ),
    (
        "the known answers of inputs removed",
        "report",
        _OTHER,
        _signed_off(_without_key("inputs")),
    ),
    (
        "the digest of the weights removed",
        "report",
        _OTHER,
        _signed_off(_without_key("weights")),
    ),
    (
        "a contract that no commit holds",
        "report",
        "thresholds that are in no commit",
        _signed_off(lambda text: text),
    ),
    (
        "a cell of the release taken out",
        "report",
        _OTHER,
        _signed_off(_replaced(r'cells = \["nonlocal_tiny-', 'cells = ["timesformer_tiny-')),
    ),
)


def contract_faults() -> Iterable[Fault]:
    """Return the faults of the contract."""
    for name, by, finding, trial in _CONTRACT:
        yield Fault("contract", name, by, finding, trial)
