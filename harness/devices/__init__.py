"""Where it runs: one file a device, each defining DEVICE, found by file name."""
