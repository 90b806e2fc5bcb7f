"""How a process treats memory that tensors have given back."""

from __future__ import annotations

import ctypes
import sys

# <malloc.h>: from which size on an allocation is memory of its own, how much freed memory at the end stays, and how
# many heaps threads have among them.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# The largest tensors stay allocations of their own: among small ones they would leave gaps that nothing fits.
_OWN_BYTES = 64 * 2**20
_KEPT_BYTES = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of returning it to the system, where malloc is glibc's.

    Features of tens of megabytes come and go with every layer; taken fresh from the system, each page of them is
    zeroed first, which takes longer than what is then written there. For programs that mostly run a network, to call
    once before it; a library has no say in it. All threads use one heap: what one of them has freed serves the others,
    which took a tenth less memory where two threads pass a network each.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # A glibc that refuses the first would, after the second, take every larger tensor fresh from the system.
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _OWN_BYTES):
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_ARENA_MAX, 1)
