"""Stands where decord is not installed, as on aarch64: put this folder on PYTHONPATH."""

raise ModuleNotFoundError("No module named 'decord'", name="decord")
