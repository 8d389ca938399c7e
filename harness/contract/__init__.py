"""``thresholds.toml``: its tables, tiers, scope, lint and calibration."""
