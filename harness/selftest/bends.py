"""Ways to bend a stored run, as anybody with an editor and the suite can."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.clips import Predictions
from harness.record.facts import FACTS, binding_of, closing_of
from harness.record.npz import npz_from_predictions, predictions_from_npz
from harness.record.record import RECORDS, RunDirectory

Values = dict[str, Any]
# The folder of a green, signed run, and that of another green run of the same cell.
Bend = Callable[[Path, Path], object]


def set_facts(root: Path, **changes: object) -> None:
    """Change what run.json says."""
    facts = json.loads((root / FACTS).read_text("utf-8"))
    (root / FACTS).write_text(json.dumps({**facts, **changes}), "utf-8")


def edit(root: Path, check: str | None, change: Callable[[Values], object]) -> None:
    """Change the stored record of a check, or all of them, as anybody can with an editor."""
    path = root / RECORDS
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for record in records:
        if check in (None, record["check"]):
            change(record)
    path.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")


def bind(root: Path) -> None:
    """Bind the records and the end of an edited run anew, as anybody with the suite can."""
    facts, path = json.loads((root / FACTS).read_text("utf-8")), root / RECORDS
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    bound = [{**one, "binding": binding_of(facts, one)} for one in records]
    path.write_text("".join(json.dumps(one) + "\n" for one in bound), "utf-8")
    if facts.get("closing"):
        set_facts(root, closing=closing_of(facts, [one["binding"] for one in bound]))


def bound(bend: Bend) -> Bend:
    """Bend, then bind the records anew."""

    def bent(root: Path, other: Path) -> None:
        bend(root, other)
        bind(root)

    return bent


def of_record(check: str, change: Callable[[Values], object]) -> Bend:
    """Change the record of a check."""
    return lambda root, _: edit(root, check, change)


def more_sessions(record: Values) -> None:
    """Say that more sessions were timed."""
    record["measurement"]["session_count"] = 99


def renamed(root: Path, _: Path) -> None:
    """Give a run another id and another start."""
    set_facts(root, started="2026-03-02T00:00:00+00:00")
    rename(root)


def rename(root: Path) -> None:
    """Give a run another id."""
    set_facts(root, run_id="tonight")
    edit(root, None, lambda record: record.update(run_id="tonight"))


def stored_record(root: Path, check: str) -> Values:
    """Return the record of a check as it is stored."""
    lines = (root / RECORDS).read_text("utf-8").splitlines()
    return next(one for line in lines if (one := json.loads(line))["check"] == check)


def taken(*names: str) -> Bend:
    """Take fields of the throughput record, or all of it, from another green run."""

    def bent(root: Path, other: Path) -> None:
        theirs = stored_record(other, "throughput")
        chosen = {name: theirs[name] for name in names or theirs}
        own = stored_record(root, "throughput")["run_id"]
        edit(root, "throughput", lambda record: record.update(chosen, run_id=own))
        for digest in chosen.get("raw", {}).values():
            shutil.copy(other / "raw" / f"{digest}.jsonl", root / "raw")

    return bent


def raw_file(root: Path, check: str, what: str) -> Path:
    """Return the path of a raw file of a check."""
    (found,) = (root / "raw").glob(f"{stored_record(root, check)['raw'][what]}.*")
    return found


def byte(check: str, what: str) -> Bend:
    """Flip a bit of a raw file."""
    return lambda root, _: flip(raw_file(root, check, what))


def flip(path: Path, place: int | None = None) -> None:
    """Flip a bit of a file, in its middle unless another place is given."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)


def better(root: Path, _: Path) -> None:
    """Give every clip PyTorch's answer, in a raw file with the right digest."""
    _keep_predictions(root, predictions_from_npz(raw_file(root, "accuracy", "reference")))


def worse_but_green(root: Path, _: Path) -> None:
    """Keep the record and put answers that are all wrong behind it."""
    preds = predictions_from_npz(raw_file(root, "accuracy", "predictions"))
    _keep_predictions(root, dataclasses.replace(preds, scores=np.roll(preds.scores, 1, axis=2)))


def _keep_predictions(root: Path, preds: Predictions) -> None:
    digest = RunDirectory(root).keep(npz_from_predictions(preds), ".npz")
    edit(root, "accuracy", lambda record: record["raw"].update(predictions=digest))


def of_lines(change: Callable[[list[str]], Sequence[str]]) -> Bend:
    """Change the lines of the records."""

    def bent(root: Path, _: Path) -> None:
        lines = (root / RECORDS).read_text("utf-8").splitlines()
        (root / RECORDS).write_text("\n".join(change(lines)) + "\n", "utf-8")

    return bent


def excused(root: Path, _: Path) -> None:
    """Take a record out and say that its device is absent."""
    record = stored_record(root, "accuracy")
    of_lines(lambda lines: [line for line in lines if '"check":"accuracy"' not in line])(root, root)
    name = f"{record['model']}-{record['device']}-bs{record['batch']}:accuracy"
    set_facts(root, excused=[name])


def contract_edited(root: Path, _: Path) -> None:
    """Lower a floor in the contract that the run keeps."""
    path = root / "thresholds.toml"
    path.write_text(path.read_text("utf-8").replace("floor = 0.97", "floor = 0.5"), "utf-8")


def added(root: Path, _: Path) -> None:
    """Add a raw file."""
    (root / "raw" / "more.npz").write_bytes(b"")


def decided(root: Path, _: Path) -> None:
    """Write another decision."""
    path = root / "signoff.json"
    path.write_text(path.read_text("utf-8").replace('"DO NOT SHIP"', '"SHIP"'), "utf-8")


def swapped(root: Path, _: Path) -> None:
    """Swap the two signed statements."""
    first, second = sorted((root / "attestation").iterdir())
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


def stripped(root: Path, _: Path) -> None:
    """Make a run look as if it was made before records were bound, but leave its raw files."""
    set_facts(root, nonce="", binds_its_end=False, closing="")
    edit(root, None, lambda record: record.update(binding=""))


def signature_of(root: Path, other: Path) -> None:
    """Take the signature of another run."""
    shutil.rmtree(root / "attestation")
    shutil.copytree(other / "attestation", root / "attestation")
