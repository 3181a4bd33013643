"""How a process keeps memory that it will need again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_INT, _LARGEST_MMAP_THRESHOLD = 2**31 - 1, 32 << 20


def keep_freed_memory() -> None:
    """Keep what is freed for the next arrays of this process, up to 2 GB.

    A scan and its image are some MB, and glibc may give such memory back to the system, which then
    has to clear it, page by page, for the next scan. This is for processes that do the same again
    and again: their memory has its peak in the first round. Without glibc (macOS, musl) nothing is
    done.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT)
