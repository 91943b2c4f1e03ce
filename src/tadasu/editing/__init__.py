"""Edits: stored changes of what text means to a model, solved once and undone exactly."""

from __future__ import annotations
