"""Loading a transformers model so that what runs is exactly what was saved."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.errors import BadFile, BadInput, MissingPart, TadasuError, shown

if TYPE_CHECKING:
    import numpy as np
    import torch

HUB_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A model in evaluation mode on its device.

    Args:
        model: the model.
        device: where it is.
        dtype: of its weights, and of the pixels it is given.
    """

    model: Any
    device: torch.device
    dtype: torch.dtype

    def run(
        self, forward: Callable[[Any, torch.Tensor], torch.Tensor], inputs: torch.Tensor
    ) -> np.ndarray:
        """What the model says about a batch, in float32.

        Args:
            forward: takes the model and the inputs on its device.
            inputs: pixels (cast to the model's dtype) or token ids (left as they are).
        """
        import torch

        moved = inputs.to(self.device)
        if moved.is_floating_point():
            moved = moved.to(self.dtype)
        with torch.inference_mode():
            answer: np.ndarray = forward(self.model, moved).float().cpu().numpy()
        return answer


@contextmanager
def quietly() -> Iterator[None]:
    """Loading without progress bars, which are left as they were."""
    import transformers.utils.logging as log

    shows = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shows:
            log.enable_progress_bar()


def check_hub(ref: str, kind: str, index: str = "config.json") -> None:
    """Says at once that a hub id is out of reach; libraries try again for minutes.

    Args:
        ref: a folder, which is not looked at, or a hub id.
        kind: what it should be, for the message, for example ``"a CLIP model"``.
        index: a file that every model of the kind has; when it is in the cache, nobody is asked.

    Raises:
        BadFile: neither a folder nor a hub id, or the hub has no such model.
        MissingPart: the hub cannot be reached.
    """
    if Path(ref).exists():
        return
    from huggingface_hub import model_info, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        if isinstance(try_to_load_from_cache(ref, index), str):
            return
        model_info(ref, timeout=HUB_SECONDS)
    except HFValidationError as error:
        raise BadFile(
            f"{shown(ref, 300)} cannot be loaded as {kind}: there is no such folder, and it is no "
            "hub id."
        ) from error
    except RepositoryNotFoundError as error:
        raise BadFile(
            f"{shown(ref, 300)} cannot be loaded as {kind}: there is no such folder, and the hub "
            "has no such model that you may read."
        ) from error
    except HfHubHTTPError:
        return  # it is there; what is the matter is said where it is read
    except Exception as error:  # of whatever library carries the request
        raise MissingPart(
            f"{shown(ref, 300)} cannot be loaded as {kind}: there is no such folder, it is not in "
            f"the cache, and the hub cannot be reached: {shown(' '.join(str(error).split()), 200)}"
        ) from error


@contextmanager
def reading(ref: str, kind: str) -> Iterator[Any]:
    """Gives the transformers package, and turns its complaints into one clear message.

    Args:
        ref: the folder or hub id that is read inside the context.
        kind: what it should be, for the message, for example ``"a CLIP model"``.

    Raises:
        BadFile: what is read is absent, incomplete or something else.
        MissingPart: the extra ``diffusers`` is not installed, or the hub is not reachable.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingPart.extra(kind, "diffusers") from error
    check_hub(ref, kind)
    try:
        with quietly():
            yield transformers
    except TadasuError:
        raise
    except ImportError as error:
        raise _missing(ref, kind, error) from error
    except Exception as error:  # a damaged folder makes loaders raise nearly anything
        reason = " ".join(str(error).split())
        raise BadFile(
            f"{shown(ref, 300)} cannot be loaded as {kind}: {shown(reason, 300)}."
        ) from error


def _missing(ref: str, kind: str, error: ImportError) -> MissingPart:
    """What a model's own classes need beyond the extra; most often torchvision."""
    reason = " ".join(str(error).split())
    needed = re.findall(r"pip install ([A-Za-z0-9_.-]+)|requires the (\w+) library", reason, re.I)
    names = {next(filter(None, pair)).lower() for pair in needed} | (
        {"torchvision"} if "torchvision" in reason.lower() else set()
    )
    install = " ".join(sorted(names)) or error.name or "what the message names"
    version = ""
    if "torchvision" in names:
        import torch

        version = (
            f" The torchvision must be built for your torch {torch.__version__}, from the same "
            "index (for CPU: --index-url https://download.pytorch.org/whl/cpu)."
        )
    return MissingPart(
        f"{shown(ref, 300)} cannot be loaded as {kind}: its processor needs a further package. "
        f"Install it with: pip install {install}.{version} ({shown(reason, 200)})"
    )


def complete(auto_class: Any, ref: str) -> Any:
    """Loads a model and refuses it when weights are missing.

    transformers fills what is missing with random numbers; a detector with a random head would
    answer, and its answers would mean nothing.

    Args:
        auto_class: an Auto class of transformers.
        ref: a folder or a hub id.

    Raises:
        BadFile: weights are missing or have another shape.
    """
    model, report = auto_class.from_pretrained(ref, output_loading_info=True)
    lost = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if lost:
        raise BadFile(
            f"{shown(ref, 300)} lacks {len(lost)} weights of {type(model).__name__}, "
            f"first {lost[0]}; it is incomplete or another kind of model."
        )
    return model


def place(model: Any, *, device: str | None, dtype: torch.dtype | None) -> Placed:
    """Puts a model where it will run, for good, in evaluation mode.

    Args:
        model: a torch module.
        device: a torch device; None for CUDA where there is one, else the CPU.
        dtype: of the weights; None for float32.

    Raises:
        BadInput: there is no such device.
    """
    import torch

    wanted = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = dtype or torch.float32
    try:
        where = torch.device(wanted)
        moved = model.to(device=where, dtype=kind).eval()
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"The device {shown(wanted)} is not usable here: {error}") from error
    return Placed(model=moved, device=where, dtype=kind)


def fingerprint(model: Any) -> str:
    """What a model's weights are, as 64 hexadecimal digits: SHA-256 over them as float32.

    The same weights in half precision give the same digits as before they were rounded only if
    nothing was lost; names do not carry the prefix that some classes add.
    """
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key.removeprefix('text_model.')}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
