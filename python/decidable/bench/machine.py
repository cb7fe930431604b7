"""On what was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from decidable._native import VECTORS

__all__ = ["this_machine"]


def this_machine() -> dict[str, str | int]:
    """The processor, how many of its cores this program may use, the vector instructions that batches are decided with
    on it, the operating system and Python."""
    return {
        "processor": _processor(),
        "cores": _cores(),
        "vectors": VECTORS,
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Processor") and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
