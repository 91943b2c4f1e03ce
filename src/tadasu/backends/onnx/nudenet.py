"""The weights of NudeNet 3.4.2, as the package ``nudenet`` carries them; its code is not run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tadasu.backends.onnx.session import Session, check_content, import_onnxruntime
from tadasu.detectors.nudenet import EXPOSED, NudeNet
from tadasu.errors import MissingPart

SHA256 = "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f"


def load(
    *,
    concepts: tuple[str, ...] = ("sexual",),
    labels: tuple[str, ...] = EXPOSED,
    device: str | None = None,
    threads: int | None = None,
) -> NudeNet:
    """The nudenet detector with its network of 320 x 320 pixels.

    Args:
        concepts: the ids of the concepts that an exposed part of a body stands for.
        labels: the labels that count.
        device: ``"cpu"``, ``"cuda"``, or None for the fastest that is there.
        threads: how many threads one call may use; None leaves it to onnxruntime.

    Raises:
        MissingPart: the extra ``nudenet`` is not installed.
        BadFile: the weights are not the ones that were measured.
        UnknownName: a label that the network does not know.
    """
    package = find_spec("nudenet")
    if package is None or package.origin is None:
        raise MissingPart.extra("the nudenet detector", "nudenet")
    import_onnxruntime("the nudenet detector")
    weights = Path(package.origin).with_name("320n.onnx")
    check_content(weights, SHA256)
    session = Session(weights, device=device, threads=threads)
    return NudeNet(network=session, concepts=concepts, labels=labels)
