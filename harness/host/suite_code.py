"""Which code of the suite runs, and where its contract comes from: commits, and whether they hold.

The suite's own files are compared with the commit of the checkout that holds the package, or with
the list of digests that its installed wheel brought along; the contract may lie somewhere else.
"""

import base64
import hashlib
import importlib.metadata
import subprocess
from collections.abc import Mapping
from pathlib import Path

import harness
from harness.host.provenance import sha256_from_file

UNKNOWN = "unknown"
PACKAGE = Path(harness.__file__).parent
DISTRIBUTION = "ascend-video-acceptance"
_GIT_LIMIT_S = 10.0


def suite_facts(package: Path = PACKAGE) -> Mapping[str, str]:
    """Return ``suite.commit``, or ``wheel-sha256:`` and a digest, and whether files differ from it."""
    tree = _tree(package)
    if "__init__.py" in tree:
        is_clean = tree == _blobs(package, tree) and _git(package, "status", "--porcelain") == ""
        commit = _git(package, "rev-parse", "HEAD") or UNKNOWN
        return {"suite.commit": commit, "suite.dirty": "no" if is_clean else "yes"}
    recorded = _recorded(package)
    if "__init__.py" not in recorded:
        return {"suite.commit": UNKNOWN, "suite.dirty": UNKNOWN}
    digest = hashlib.sha256(repr(sorted(recorded.items())).encode()).hexdigest()
    is_clean = recorded == {name: sha256_from_file(package / name) for name in _files(package)}
    return {"suite.commit": f"wheel-sha256:{digest}", "suite.dirty": "no" if is_clean else "yes"}


def suite_digest() -> str:
    """Return one sha256 over the files of the package: hosts with the same one run the same code."""
    digests = sorted((name, sha256_from_file(PACKAGE / name)) for name in _files(PACKAGE))
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def contract_facts(contract: Path | None) -> Mapping[str, str]:
    """Return the commit of the checkout that holds the contract, and whether it differs from it."""
    if contract is None:
        return {}
    folder = contract.resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {"contract.commit": UNKNOWN, "contract.dirty": UNKNOWN}
    name = contract.resolve().name
    tree = {path: blob for path, blob in _tree(folder).items() if path == name}
    is_clean = bool(tree) and tree == _blobs(folder, tree, [name])
    return {"contract.commit": commit, "contract.dirty": "no" if is_clean else "yes"}


def _files(package: Path) -> list[str]:
    """Return the files of the package by their path in it, without what Python has compiled."""
    found = (path for path in package.rglob("*") if path.is_file())
    names = [path.relative_to(package) for path in found]
    return [name.as_posix() for name in names if "__pycache__" not in name.parts]


def _tree(folder: Path) -> dict[str, str]:
    """Return the blobs of the last commit by their path below a folder."""
    listing = _git(folder, "ls-tree", "-r", "-z", "HEAD", "--", ".") or ""
    entries = (line.partition("\t") for line in listing.split("\0") if line)
    return {name: kind.split()[-1] for kind, _, name in entries}


def _blobs(folder: Path, tree: Mapping[str, str], names: list[str] | None = None) -> dict[str, str]:
    """Return the blobs that the files of a folder would be; by Git's flags none can be hidden."""
    algorithm = "sha1" if all(len(blob) == 40 for blob in tree.values()) else "sha256"
    found = {}
    for name in _files(folder) if names is None else names:
        content = (folder / name).read_bytes()
        header = f"blob {len(content)}\0".encode()
        found[name] = hashlib.new(algorithm, header + content, usedforsecurity=False).hexdigest()
    return found


def _recorded(package: Path) -> dict[str, str]:
    """Return the sha256 that the installed wheel has recorded for each file of the package."""
    try:
        installed = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = {}
    for file in installed.files or ():
        path = Path(str(file.locate()))
        if (
            file.hash is not None
            and path.is_relative_to(package)
            and "__pycache__" not in path.parts
        ):
            digest = base64.urlsafe_b64decode(file.hash.value + "==").hex()
            found[path.relative_to(package).as_posix()] = digest
    return found


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_LIMIT_S, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
