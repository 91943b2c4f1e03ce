"""Intervals, paired tests and estimators on NumPy and SciPy alone."""
