"""The fixture ``files``: adapter files made by ``files.py`` beside this one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def files() -> ModuleType:
    """One set of changes, written in many layouts."""
    spec = importlib.util.spec_from_file_location(
        "auditing_files", Path(__file__).parent / "files.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
