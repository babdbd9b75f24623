"""Freed memory stays with the process, which would pay for every page of it again.

glibc gives the free end of its heap back to the system after a large result is gone.
The next one then costs a page fault every four kilobytes, which is up to a fifth of the
time of a frozen circuit.
"""

import ctypes
import os

__all__ = ["keep_pages"]

TRIM, MAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""

KNOWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which a user has said something else."""


def keep_pages(most: int = 2**30) -> bool:
    """Have this process keep freed memory, where the C library is glibc.

    `nacs` calls it on the command line. In a program of your own it is yours to call,
    once, before the first model runs.

    Args:
        most: Bytes that are kept at the end of the heap. A block of more than a quarter
            of them goes back at once: data sets, not what a layer computes.

    Returns:
        Whether it was done: not on another C library, and not where the environment
        has set glibc's thresholds.
    """
    if any(name in os.environ for name in KNOWN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(TRIM, most) and mallopt(MAP, most // 4))
