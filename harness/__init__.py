"""Acceptance suite for video models on Ascend NPUs."""
