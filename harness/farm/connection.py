"""How the driver reaches a farm: it connects to Ray, and turns what Ray raises into errors of the suite."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from harness.errors import HarnessError, RunError, SiteError, first_line

NAMESPACE = "acceptance"
CONNECT_S = 10.0
_START = "`harness farm up` prints how to start one; name it with --farm or with farm in site.toml"
_NO_RAY = "a farm needs Ray: install it with pip install 'ascend-video-acceptance[farm]'"
_AGAIN = "then rerun: hosts keep what they have finished"


@contextlib.contextmanager
def mapped(title: str) -> Iterator[None]:
    """Turn what Ray raises into an error of the suite that names what was asked."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, HarnessError):
            raise error.cause from error
        raise RunError(f"{title}: it raised {first_line(error.cause)} on a host") from error
    except HarnessError:
        raise
    except Exception as error:
        fate = "the farm lost it, and no other host could take it"
        if _is_gone(error):
            fate = "the host that leads the farm is gone"
        elif not isinstance(error, RayError):
            raise
        raise RunError(
            f"{title}: {fate}: {first_line(error)}; start hosts again with the lines of `harness farm "
            f"up`, {_AGAIN}"
        ) from error


def _is_gone(error: Exception) -> bool:
    """Whether the host that leads the farm is gone; Ray has no class of error for that."""
    import ray
    from grpc import RpcError

    try:
        return isinstance(error, ConnectionError | RpcError) or not ray.is_initialized()
    except (ConnectionError, RpcError):  # Ray may ask that host whether it is there
        return True


def connected(address: str) -> Any:
    """Connect to a farm and return Ray.

    Args:
        address: ``ray://HEAD:10001``, or ``auto`` for the cluster that this host is part of.

    Raises:
        SiteError: Ray is missing, or the farm does not answer.
    """
    # Otherwise Ray starts a farm of its own here, in place of one that is gone.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    try:
        import ray
        from ray.util.debug import log_once
    except ImportError as error:
        raise SiteError(_NO_RAY) from error
    _refuse_silence(address)
    try:
        if not ray.is_initialized():
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            ray.init(address=address, namespace=NAMESPACE, **quiet)
            # What Ray says once of many calls would end a run whose warnings are errors.
            log_once("client_communication_overhead_warning")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise SiteError(
            f"the farm at {address} does not answer, or has another token: {first_line(error)}; {_START}"
        ) from error
    return ray


def _refuse_silence(address: str) -> None:
    """Find out in seconds that nothing listens; Ray takes two minutes to say so."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        raise SiteError(
            f"nothing listens at {address}: {error.strerror or error}; {_START}"
        ) from error
