"""Faults of the contract: limits lowered, sources removed, waivers widened."""

import json
import re
from collections.abc import Callable, Iterable

from harness.selftest.faults import MODEL, Fault, NotPlanted, Trial
from harness.selftest.setting import Answer, Setting

Edit = Callable[[str], str]


def _replaced(pattern: str, new: str, count: int = 1) -> Edit:
    """Replace what a pattern matches, ``count`` times, or everywhere if it is 0."""

    def edit(text: str) -> str:
        edited, found = re.subn(pattern, new, text, count=count)
        if not found:
            raise NotPlanted(f"nothing in the contract matches {pattern!r}")
        return edited

    return edit


def _number(key: str, new: str) -> Edit:
    """Replace the first number that the contract gives for a key, whatever it is."""
    return _replaced(rf"\b{key} = [\d.e-]+", new)


def _without_key(key: str) -> Edit:
    """Remove each line that sets a key."""
    return _replaced(rf"(?m)^(?:\w+\.)?{key} = .*\n", "", count=0)


def _read(edit: Edit) -> Trial:
    """Run a check with an edited contract; return all that was printed."""

    def trial(setting: Setting) -> Answer:
        setting.contract = edit(setting.contract)
        words = ("-m", f"{setting.device} and export", "--model", MODEL, "--tier", "selftest")
        return setting.pytest(*words, "--run-dir", str(setting.folder / "run"))

    return trial


def _signed_off(edit: Edit) -> Trial:
    """Sign off a green run by a contract that is not its own; return the reasons against it."""

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


# What a run refuses an edited contract for.
_READ: tuple[tuple[str, str, Edit], ...] = (
    ("a source removed", "source", _replaced(', source = "fixtures"', "")),
    ("a source that is not there", "source", _replaced('"fixtures"', '"hearsay"')),
    ("a floor that everything reaches", "floor", _number("floor", "floor = 0.0")),
    ("a tolerance that everything meets", "tolerance", _number("tolerance", "tolerance = 1.0")),
    ("a limit of NaN", "max_abs_error", _number("max_abs_error", "max_abs_error = nan")),
    ("a limit as text", "cosine", _number("cosine", 'cosine = "0.99999"')),
    ("a key that is not known", "tolerence", _number("tolerance", "tolerence = 0.1")),
    ("nothing required", "required", _replaced(r'required = \["\*:\*"\]', "required = []")),
    ("a margin of every clip", "margin", _number("margin", "margin = 1.0")),
    ("a waiver of all cells", "cell", _waiver("export", cell="*")),
    ("a waiver of all checks", "check", _waiver("*")),
    ("a waiver of what passes", "passes though it is waived", _waiver("export")),
    ("a waiver that has expired", "expired", _waiver("export", "2020-01-01")),
    ("a waiver without a last day", "expires", _waiver("export", '""')),
)
_OTHER = "a run was judged by other thresholds"
# Why a green run is not signed off by a contract that is not its own.
_SIGNED_OFF: tuple[tuple[str, str, Edit], ...] = (
    ("a floor lowered", _OTHER, _number("floor", "floor = 0.5")),
    ("a limit of parity loosened", _OTHER, _number("relative_l2", "relative_l2 = 0.1")),
    ("the digest of the clips removed", _OTHER, _without_key("digest")),
    ("the known answers of inputs removed", _OTHER, _without_key("inputs")),
    ("the digest of the weights removed", _OTHER, _without_key("weights")),
    ("a contract that no commit holds", "thresholds that are in no commit", lambda text: text),
    (
        "a cell of the release taken out",
        _OTHER,
        _replaced(r'cells = \["nonlocal_tiny-', 'cells = ["timesformer_tiny-'),
    ),
)


def contract_faults() -> Iterable[Fault]:
    """Return the faults of the contract."""
    for name, finding, edit in _READ:
        yield Fault("contract", name, "run", finding, _read(edit))
    for name, finding, edit in _SIGNED_OFF:
        yield Fault("contract", name, "report", finding, _signed_off(edit))
