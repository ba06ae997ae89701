"""The ways out: exporters that wrap or feed OpenTelemetry."""
