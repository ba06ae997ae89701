"""Dashboards for Grafana, as code: ``python -m llmguard.exporters.grafana DIRECTORY`` writes them as JSON."""
