"""One network in onnxruntime: arrays in, one array out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.errors import BadFile, BadInput, MissingPart, shown

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float32

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Session:
    """A network with one input and one output, loaded once.

    Args:
        path: the ``.onnx`` file.
        device: ``"cpu"`` or ``"cuda"``, or None for the fastest of them that is there.
        threads: how many threads one call may use; None leaves it to onnxruntime.

    Raises:
        BadFile: the file is absent or is no network of one input and one output.
        BadInput: the device has another name.
        MissingPart: onnxruntime, or its support of the device, is not installed.
    """

    def __init__(
        self, path: Path, *, device: str | None = None, threads: int | None = None
    ) -> None:
        runtime = import_onnxruntime("a network in the ONNX format")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors; warnings would go to standard error unasked
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = _providers(runtime.get_available_providers(), device)
        if not path.is_file():
            raise BadFile(f"There is no network file {shown(path, 300)}.")
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise BadFile(f"{shown(path, 300)} is not a network that onnxruntime reads.") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if (len(inputs), len(outputs)) != (1, 1):
            raise BadFile(f"{shown(path, 300)} must have one input and one output.")
        self._input = inputs[0].name

    def __call__(self, batch: Float32[np.ndarray, "batch ..."]) -> Float32[np.ndarray, "batch ..."]:
        """Runs the network on a batch."""
        (answer,) = self._session.run(None, {self._input: batch})
        found: np.ndarray = answer
        return found


def import_onnxruntime(feature: str) -> Any:
    """The onnxruntime package.

    Raises:
        MissingPart: it is not installed; the message names the feature and the install line.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPart.extra(feature, "onnx") from error
    return onnxruntime


def check_content(path: Path, sha256: str) -> None:
    """Refuses a file that is not the one that was measured.

    Raises:
        BadFile: the file is absent, or its SHA-256 is another one.
    """
    if not path.is_file():
        raise BadFile(f"There is no network file {shown(path, 300)}.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise BadFile(
            f"{shown(path, 300)} is damaged or another version: its SHA-256 is {found}, "
            f"expected {sha256}."
        )


def _providers(available: list[str], device: str | None) -> list[str]:
    if device is None:
        return [PROVIDERS[name] for name in ("cuda", "cpu") if PROVIDERS[name] in available]
    kind = device.partition(":")[0]
    if kind not in PROVIDERS:
        raise BadInput(f"onnxruntime runs on cpu or cuda here; given {shown(device)}.")
    if PROVIDERS[kind] not in available:
        raise MissingPart(f"This onnxruntime has no {kind} support; install onnxruntime-gpu.")
    return [PROVIDERS[kind]]
