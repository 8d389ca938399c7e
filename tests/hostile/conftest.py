from tests.signed_run import keys, make_run, signed, signed_once

__all__ = ["keys", "make_run", "signed", "signed_once"]
