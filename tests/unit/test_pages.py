"""Freed memory stays with the process, counted in page faults."""

import os
import platform
import subprocess
import sys

import pytest

from nacs import pages

BLOCKS = """
import resource
from nacs.pages import keep_pages

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [b"1" * 8_000_000 for _ in range(4)]  # 7,813 pages
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_pages(), faults())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is another"
)
@pytest.mark.parametrize("said", [{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}])
def test_pages_are_paid_for_once(said):
    """Unless the environment says what is to be kept."""
    bare = {k: v for k, v in os.environ.items() if k not in pages.KNOWN}
    words = [sys.executable, "-c", BLOCKS]
    told = subprocess.run(words, env=bare | said, capture_output=True, text=True)
    first, kept, then = told.stdout.split()
    assert int(first) > 100_000
    assert kept == str(not said)
    assert (int(then) < 20_000) == (not said)


def test_another_c_library(monkeypatch):
    for name in pages.KNOWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pages.ctypes, "CDLL", lambda _: object())
    assert not pages.keep_pages()
