"""How it runs: the software that builds and runs device models."""
