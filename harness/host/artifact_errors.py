"""What a person reads when the artifact store cannot be written."""

import contextlib
import errno
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from harness.errors import ArtifactError, HarnessError
from harness.host.provenance import Request, bytes_below

CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})


@contextlib.contextmanager
def explained(request: Request, temp: Path, only: Collection[int] | None = None) -> Iterator[None]:
    """Turn what the system refuses in ``temp`` into an ArtifactError that says what to do.

    By default all its errors count as the store's; else those with a number in ``only``.
    """
    try:
        yield
    except ArtifactError:
        raise
    except (OSError, HarnessError) as error:
        cause = _os_error(error)
        if cause is None or not (only is None or _is_of_store(cause, temp, only)):
            raise
        raise ArtifactError(_advice(cause, request, temp)) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """Return the operating system's error behind ``error``, which a stage may have wrapped."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error


def _is_of_store(error: OSError, temp: Path, errnos: Collection[int]) -> bool:
    is_here = error.filename is None or str(error.filename).startswith(str(temp))
    return error.errno in errnos and is_here


def _advice(error: OSError, request: Request, temp: Path) -> str:
    written_mb, free_mb = bytes_below(temp) / 1e6, free_bytes(temp) / 1e6
    return (
        f"cannot write {request}, {written_mb:.1f} MB so far, in {temp.parent} ({free_mb:.1f} MB free): "
        f"{error}; make room with `harness cache prune --max-gb N`, or name another cache as cache_dir in "
        "site.toml (--site) or in ACCEPTANCE_CACHE_DIR"
    )


def free_bytes(path: Path) -> int:
    """Return the free space where a path is, or where it would be made."""
    existing = next(one for one in (path, *path.absolute().parents) if one.exists())
    return shutil.disk_usage(existing).free
