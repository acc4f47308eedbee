"""More workers of a run on this machine, one a GPU: processes that join its study."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from autoprompt.study import Shared

__all__ = ["crew"]

_PATIENCE = 30.0  # seconds that a worker has to end by itself


@contextlib.contextmanager
def crew(shared: Shared, count: int, log: Path, devices: int) -> Iterator[None]:
    """While open, so many workers help; what they say goes to `log`.

    devices: GPUs here; worker k takes number k modulo that, the main process has the first. Workers end with the
    run, at the latest when this closes: what they were at is told by others, or again.
    """
    told = log.open("ab")
    workers = []
    try:
        for number in range(1, count + 1):
            command = [
                sys.executable,
                "-m",
                "autoprompt",
                "worker",
                "--storage",
                shared.storage,
                "--study",
                shared.name,
            ]
            if devices:
                command += ["--device", f"cuda:{number % devices}"]
            workers.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=told, stderr=told, start_new_session=True)
            )
        yield
    finally:
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(_PATIENCE / max(1, len(workers)))
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        told.close()
