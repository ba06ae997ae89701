"""What llmguard promises about speed, measured; `python -m benchmarks` prints every row."""
