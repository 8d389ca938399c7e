"""A session and samples to predictions: runs, journals, chips, shards, the PyTorch reference."""
