"""Attacks: texts that hide what they ask for, and texts found by searching a model."""
