"""Detectors that exist only as judges, and what is known about their errors."""
