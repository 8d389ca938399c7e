"""What is accepted: one file a model, each defining SPEC, found by file name."""
