"""Clips in, tensors out."""
