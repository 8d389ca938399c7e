"""Nothing to set up: the harness registers itself as a pytest plugin when it is installed."""
