"""The fixtures ``files`` and ``closed_form``: what stands in the files of these names here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def files() -> ModuleType:
    """One set of changes, written in many layouts."""
    return beside("files")


@pytest.fixture(scope="session")
def closed_form() -> ModuleType:
    """A denoiser whose every number can be worked out by hand."""
    return beside("closed_form")


def beside(name: str) -> ModuleType:
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(
        f"auditing_{name}", Path(__file__).parent / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
