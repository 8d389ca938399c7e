"""Sessions and samples to predictions: runs, journals, chips, shards, the PyTorch reference."""
