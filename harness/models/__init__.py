"""The models to accept: one file per model, each defining SPEC and found by its file name."""
