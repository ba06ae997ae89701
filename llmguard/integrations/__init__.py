"""The ways in: where a guard meets other software."""
