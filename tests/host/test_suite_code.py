import subprocess
import sys

import pytest

from harness.host.suite_code import contract_facts, suite_facts


def git(folder, *words):
    who = ("-c", "user.name=n", "-c", "user.email=e")
    command = ["git", *who, *words]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A checkout of a small suite, and the folder of its package."""
    package = tmp_path / "suite" / "harness"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models" / "tiny.py").write_text("SPEC = 1\n")
    (tmp_path / "suite" / ".gitignore").write_text("ignored.py\n__pycache__/\n")
    git(tmp_path / "suite", "init", "-q")
    git(tmp_path / "suite", "add", ".")
    git(tmp_path / "suite", "commit", "-qm", "m")
    return package


def test_a_clean_checkout_is_its_commit(checkout):
    (checkout / "__pycache__").mkdir()
    (checkout / "__pycache__" / "x.pyc").write_bytes(b"x")
    commit = git(checkout, "rev-parse", "HEAD")
    assert suite_facts(checkout) == {"suite.commit": commit, "suite.dirty": "no"}


@pytest.mark.parametrize(
    "change", ["edited", "hidden", "added", "ignored", "removed", "beside the package"]
)
def test_whatever_differs_from_the_commit_is_dirt(checkout, change):
    spec = checkout / "models" / "tiny.py"
    match change:
        case "edited":
            spec.write_text("SPEC = 2\n")
        case "hidden":
            git(checkout, "update-index", "--assume-unchanged", "models/tiny.py")
            spec.write_text("SPEC = 2\n")
        case "added":
            (checkout / "new.py").touch()
        case "ignored":
            (checkout / "ignored.py").touch()
        case "removed":
            spec.unlink()
        case _:
            (checkout.parent / "conftest.py").touch()
    assert suite_facts(checkout)["suite.dirty"] == "yes"


def test_a_package_that_no_commit_holds_has_none(checkout, tmp_path):
    """A package installed below somebody's checkout is not of that checkout."""
    inside = checkout.parent / "venv" / "harness"
    inside.mkdir(parents=True)
    (inside / "__init__.py").touch()
    for package in (inside, tmp_path):
        assert set(suite_facts(package).values()) == {"unknown"}


def test_without_git_nothing_is_known(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert suite_facts(checkout) == {"suite.commit": "unknown", "suite.dirty": "unknown"}
    assert set(contract_facts(checkout / "__init__.py").values()) == {"unknown"}


def test_an_installed_wheel_is_the_digest_of_its_files(tmp_path):
    """The files are compared with the list that the wheel has brought along."""
    site = tmp_path / "site"
    info = site / "ascend_video_acceptance-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "harness").mkdir()
    (site / "harness" / "__init__.py").write_bytes(b"")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ascend-video-acceptance\n")
    empty = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    (info / "RECORD").write_text(f"harness/__init__.py,sha256={empty},0\n")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from harness.host.suite_code import suite_facts\n"
        "print(*suite_facts(Path(sys.argv[1]) / 'harness').values())"
    )

    def facts():
        command = [sys.executable, "-c", "import harness.host.suite_code\n" + code, str(site)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.split()

    commit, dirty = facts()
    assert commit.startswith("wheel-sha256:")
    assert dirty == "no"
    (site / "harness" / "__init__.py").write_bytes(b"x")
    assert facts() == [commit, "yes"]
    (site / "harness" / "__init__.py").write_bytes(b"")
    (site / "harness" / "more.py").write_bytes(b"")
    assert facts() == [commit, "yes"]


def test_the_contract_has_a_commit_of_its_own(checkout, tmp_path):
    contract = checkout / "thresholds.toml"
    contract.write_text("x = 1\n")
    assert contract_facts(contract)["contract.dirty"] == "yes"
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "contract")
    (checkout / "models" / "tiny.py").write_text("SPEC = 2\n")
    commit = git(checkout, "rev-parse", "HEAD")
    assert contract_facts(contract) == {"contract.commit": commit, "contract.dirty": "no"}
    contract.write_text("x = 2\n")
    assert contract_facts(contract)["contract.dirty"] == "yes"
    assert contract_facts(None) == {}
    assert set(contract_facts(tmp_path / "thresholds.toml").values()) == {"unknown"}
