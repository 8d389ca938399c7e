"""Arrays and times to measurements; NumPy only."""
