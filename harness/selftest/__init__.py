"""Planted faults: known ways of shipping a broken model, each of which a check must catch by name."""
