"""Run folders: records, raw files, and measurements recomputed from raw files."""
