"""A run whose search more processes share, and which they do not outlive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_run import command, written

from autoprompt.results import read_journal

pytestmark = pytest.mark.model


def ended(folder: Path) -> list[int]:
    kinds = {"TrialFinished", "TrialFailed"}
    return [event["number"] for event in read_journal(folder / "events.jsonl") if event["event"] in kinds]


def workers_of(process: int) -> list[int]:
    """Processes that a process started, by number (Linux)."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"


def test_a_run_with_a_helper_tells_each_trial_once_and_ends_with_it(
    tmp_path: Path, llama_folder: Path, topics_rows: list[dict[str, str]]
) -> None:
    space = written(tmp_path, llama_folder, topics_rows, trials=41, study='branches = ["discrete", "edits"]')
    process = command("run", space, "--workers", "2", cwd=tmp_path)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    folder = tmp_path / "results/topics"
    numbers = ended(folder)
    assert sorted(numbers) == list(range(len(numbers)))
    assert 37 <= len(numbers) <= 41
    result = json.loads((folder / "result.json").read_text())
    assert sum(sum(states.values()) for states in result["trials"].values()) == len(numbers)
    assert "This worker told" in (folder / "workers.log").read_text()
    assert "winner" in out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.fault("kill -9 of a run with workers of its own")
def test_workers_die_with_the_run_that_started_them(
    tmp_path: Path, llama_folder: Path, topics_rows: list[dict[str, str]]
) -> None:
    space = written(tmp_path, llama_folder, topics_rows, trials=100_000, study='sampler = "random"')
    process = command("run", space, "--workers", "2", cwd=tmp_path)
    until = time.monotonic() + 240
    log = tmp_path / "results/topics/workers.log"
    while not (log.exists() and b"trial" in log.read_bytes()) and time.monotonic() < until:
        time.sleep(0.05)
    [worker] = [
        number for number in workers_of(process.pid) if b"worker" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    while alive(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(worker)
