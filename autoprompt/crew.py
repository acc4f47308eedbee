"""More workers of a run on this machine, one a GPU: processes that join its study."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from autoprompt.study import Shared

__all__ = ["crew", "end_with_parent"]

_PATIENCE = 30.0  # seconds that the workers have to end by themselves


@contextlib.contextmanager
def crew(shared: Shared, count: int, log: Path, devices: int) -> Iterator[None]:
    """While open, so many workers help; what they say goes to `log`.

    devices: GPUs here; worker k takes number k modulo that, the main process has the first. Workers end with the
    search, and at once when this process is interrupted or dies: what they were at is done again.
    """
    workers: list[subprocess.Popen[bytes]] = []
    with log.open("ab") as told:
        try:
            for number in range(1, count + 1):
                device = ["--device", f"cuda:{number % devices}"] if devices else []
                command = ["-m", "autoprompt", "worker", "--storage", shared.storage, "--study", shared.name, *device]
                workers.append(
                    subprocess.Popen(
                        [sys.executable, *command, "--tied"], stdin=subprocess.PIPE, stdout=told, stderr=told,
                        start_new_session=True,
                    )
                )  # fmt: skip
            yield
            for worker in workers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.wait(_PATIENCE / count)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
                if worker.stdin is not None:
                    worker.stdin.close()


def end_with_parent() -> None:
    """End this process when the one that holds the other end of its standard input does."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(143)

    threading.Thread(target=watch, daemon=True).start()
