"""Evaluators: what tells an unsafe picture, answer or question from a safe one.

They hold no network; they are handed one by ``tadasu.backends.transformers``.
"""
