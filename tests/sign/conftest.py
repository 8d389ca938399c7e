from tests.signed_run import found, keys, make_run, run_root, signed, signed_once

__all__ = ["found", "keys", "make_run", "run_root", "signed", "signed_once"]
