"""Suites × systems × judges -> results -> report."""
