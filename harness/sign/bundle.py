"""The folder that is signed as a whole: a run, or a report with the runs that it rests on.

A run folder holds ``run.json``; a report folder holds ``signoff.json`` and its runs below ``runs/``.
Everything in it is signed except ``attestation/``, which holds the signatures.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import RecordError
from harness.host.provenance import sha256_from_file
from harness.host.reading import ARRAY_BYTES
from harness.record.record import RunDirectory
from harness.report import signature

ATTESTATION = "attestation"
TEST_RESULT = "test-result.dsse.json"
SUMMARY = "verification-summary.dsse.json"
STYLE = f"{ATTESTATION}/{signature.STYLE}"
SIGNOFF = "signoff.json"
REPORT = "report"
RUNS = "runs"
FACTS = "run.json"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A folder to sign or to verify."""

    root: Path

    @property
    def test_result(self) -> Path:
        """The signed test result."""
        return self.root / ATTESTATION / TEST_RESULT

    @property
    def summary(self) -> Path:
        """The signed verification summary."""
        return self.root / ATTESTATION / SUMMARY

    @property
    def signoff(self) -> Path:
        """The decision: in the folder, or in the report that a run holds."""
        inside = self.root / REPORT / SIGNOFF
        return inside if inside.is_file() else self.root / SIGNOFF

    @property
    def page(self) -> Path:
        """The page of the decision; a bundle of a run that has none was never shown."""
        return self.signoff.with_suffix(".html")

    def runs(self) -> tuple[RunDirectory, ...]:
        """Return the runs in it: the folder itself, or those below ``runs/``.

        Raises:
            RecordError: there is none.
        """
        folders = [self.root, *sorted((self.root / RUNS).glob("*"))]
        found = tuple(RunDirectory(folder) for folder in folders if (folder / FACTS).is_file())
        if not found:
            raise RecordError(
                f"{self.root} holds no run: name a run folder, or a report folder and its runs "
                "with --run"
            )
        return found

    def digests(self) -> Mapping[str, str]:
        """Return the sha256 of each file by its path, without the signatures.

        Raises:
            RecordError: something in it is not a plain file, such as a link, or cannot be read.
        """
        found: dict[str, str] = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise RecordError(f"{path} is not a plain file; only plain files can be signed")
            if path.is_file() and name not in (_inside(TEST_RESULT), _inside(SUMMARY), STYLE):
                found[name] = _sha256(path)
        return found


@contextlib.contextmanager
def with_runs(root: Path, runs: Sequence[Path]) -> Iterator[Bundle]:
    """Give the bundle of a folder with copies of ``runs``, which go again if the block fails.

    Raises:
        RecordError: a run is not a run folder, is in the folder already, or cannot be copied.
    """
    with contextlib.ExitStack() as undo:
        for run in runs:
            target = root / RUNS / run.resolve().name
            if not (run / FACTS).is_file():
                raise RecordError(f"{run} is not a run folder: it has no {FACTS} in it")
            if target.exists():
                raise RecordError(f"{target} is there already; remove it, or leave {run} out")
            undo.callback(shutil.rmtree, target, ignore_errors=True)
            try:
                shutil.copytree(run, target, symlinks=True)
            except OSError as error:
                raise RecordError(f"{run} cannot be copied to {target}: {error}") from error
        yield Bundle(root)
        undo.pop_all()


def changed_files(signed: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Name each file that is not as it was signed."""
    return [
        *(f"{name} is missing" for name in sorted(signed.keys() - found.keys())),
        *(f"{name} was added after signing" for name in sorted(found.keys() - signed.keys())),
        *(
            f"{name} was changed after signing"
            for name in sorted(signed.keys() & found.keys())
            if signed[name] != found[name]
        ),
    ]


def _inside(name: str) -> str:
    return f"{ATTESTATION}/{name}"


def _sha256(path: Path) -> str:
    try:
        return sha256_from_file(path, ARRAY_BYTES)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from error
