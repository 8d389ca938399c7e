"""The command ``harness watch``: the page of a run while it goes on."""

import argparse
import threading
import time
from pathlib import Path
from typing import Any

from harness.cli.arguments import add_command, add_language, language_of, site_of
from harness.errors import InputError
from harness.report.live import HOST, LivePage, live_server

_POLL_S = 1.0
# After the end the page is still served for so long, so that an open tab gets the last one.
_LINGER_S = 10.0


def add_commands(commands: Any) -> None:
    """Add ``watch`` to the subcommands of ``harness``."""
    text = "serve the page of a running run to this machine alone; it ends with the run"
    added = add_command(commands, "watch", _watch, text)
    added.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    added.add_argument("--port", type=int, default=0, metavar="N", help="default: any free one")
    added.add_argument("--title", default="", metavar="TEXT", help="default: as site.toml says")
    add_language(added, "the page")


def _watch(options: argparse.Namespace) -> int:
    page = LivePage(options.run, options.title or site_of(options).title, language_of(options))
    was_over = page.is_over
    try:
        server = live_server(page, options.port)
    except (OSError, OverflowError) as error:
        raise InputError(f"port {options.port} cannot be used: {error}") from error
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://{HOST}:{server.server_port}/", flush=True)
        try:
            while not page.is_over:
                time.sleep(_POLL_S)
            if not was_over:
                time.sleep(_LINGER_S)
        finally:
            server.shutdown()
    print(f"{options.run}: the run is over; harness report makes its page")
    return 0
