import subprocess
import sys

import pytest

from kaleidoscope.allocation import keep_freed_memory

COUNT_FAULTS = """
import resource
from kaleidoscope.allocation import keep_freed_memory
keep_freed_memory()
blocks, size = 4, 8 * 1024 * 1024
for _ in range(3):
    [bytearray(size) for _ in range(blocks)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    [bytearray(size) for _ in range(blocks)]
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults * resource.getpagesize() / (blocks * size))
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library is not glibc")
def test_freed_memory_is_taken_again_without_asking_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS], check=True, capture_output=True, text=True
    )
    # How many times all blocks were fetched anew; without it, each of the 50 times.
    assert float(done.stdout) < 2


def test_a_second_call_says_the_same() -> None:
    assert keep_freed_memory() is keep_freed_memory()
