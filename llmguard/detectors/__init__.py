"""Detectors: texts in, findings out; one file each, found by the entry-point group `llmguard.detectors`."""
