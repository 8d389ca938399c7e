"""History, change points, frozen baseline, comparison, gate and bisect, of stored runs only."""
