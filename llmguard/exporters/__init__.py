"""The ways out: where records of checks and calls go, and how OpenTelemetry is set up and sampled."""
