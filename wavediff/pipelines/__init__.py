"""What users hold: no Lightning, no data."""
