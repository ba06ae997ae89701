"""Texts in, arrays out: models, tokenizers, sessions and batches."""
