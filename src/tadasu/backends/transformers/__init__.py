"""Models that are loaded through transformers."""
