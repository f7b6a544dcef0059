"""A process that runs one variant, whenever the benchmark asks it to.

The benchmark writes a line of JSON with the photographs of a round and reads one with what the
round took. Between rounds the process waits, so any number of variants can take turns on the
same machine, each with its memory and its caches as a long run has them.

    python -m benchmarks.worker benchmarks.variants.engine '{"order": "given"}'
"""

import importlib
import importlib.util
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import cast

from benchmarks.variants._interface import Variant


def main() -> None:
    """Serve until the input ends."""
    module, options = sys.argv[1:]
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _use_one_thread()
    variant = cast(Variant, importlib.import_module(module).make_variant(json.loads(options)))
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        photographs = [Path(path).read_bytes() for path in json.loads(line)]
        variant.prepare(photographs)
        cpu_s, wall_s = _cpu_s(), time.perf_counter()
        num_images = variant.run(photographs)
        wall_s = time.perf_counter() - wall_s
        answer = {
            "num_images": num_images,
            "cpu_s": _cpu_s() - cpu_s,
            "wall_s": wall_s,
            "peak_bytes": peak_bytes(),
        }
        print(json.dumps(answer), file=answers, flush=True)


def peak_bytes() -> int:
    """Return the most memory that this process has had, in bytes.

    Linux's ``ru_maxrss`` begins with the peak of the process that started this one; VmHWM does
    not.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def _cpu_s() -> float:
    """Return the CPU seconds of all threads of this process and of its finished children."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _use_one_thread() -> None:
    if (cv2 := importlib.util.find_spec("cv2")) is not None:
        importlib.import_module(cv2.name).setNumThreads(1)


if __name__ == "__main__":
    main()
