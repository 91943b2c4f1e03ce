"""Peak memory of one batch: of the accelerator where there is one, else of this process."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def start() -> None:
    """Free what nobody holds any more and count the peak from here on.

    Where the system cannot start anew (macOS, Windows), the peak is that of the whole process.
    """
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):
            _CLEAR.write_text("5", encoding="ascii")  # proc(5): resets the peak resident size


def peak() -> int:
    """Bytes at the peak since `start`."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError, ValueError, StopIteration):
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return _of_process()


def _of_process() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, the others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
