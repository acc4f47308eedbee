"""Files of somebody else's, fuzzed: whatever stands in them, it works or it is an AutopromptError.

AUTOPROMPT_FUZZ_INPUTS=10000 runs more; tests/fuzz/run.py writes a record, tests/fuzz/guided.py is guided by coverage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fuzz.run import fuzzed
from fuzz.targets import SEEDS, TARGETS, FoundError, tried

from autoprompt.errors import DataError

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]
INPUTS = int(os.environ.get("AUTOPROMPT_FUZZ_INPUTS", "1400"))  # of all targets together


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_crashes_hangs_or_writes_outside_its_folder(name: str, tmp_path: Path) -> None:
    record = fuzzed(name, INPUTS // len(TARGETS), tmp_path)
    assert record["crashes"] == []
    assert record["inputs"] >= INPUTS // len(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_a_right_file(name: str, tmp_path: Path) -> None:
    assert [TARGETS[name](seed, tmp_path) for seed in SEEDS[name]] == [None] * len(SEEDS[name])


# -- the harness sees what it is there for ---------------------------------------------------------


def test_a_crash_is_found(tmp_path: Path) -> None:
    with pytest.raises(FoundError, match=r"^ZeroDivisionError: .* on b'x'$"):
        tried(lambda data, folder: print(1 // 0), b"x", tmp_path)


def test_a_file_written_outside_is_found(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    with pytest.raises(FoundError, match=r"^it did \['open .*outside'\] in"):
        tried(lambda data, folder: print((folder / ".." / "outside").write_bytes(data)), b"x", inside)
    assert outside.exists()
    assert tried(lambda data, folder: print((folder / "file").write_bytes(data)), b"x", inside) < 1


def test_a_process_that_is_started_is_found(tmp_path: Path) -> None:
    with pytest.raises(FoundError, match=r"^it did \['subprocess\.Popen'.*\] in"):
        tried(lambda data, folder: print(subprocess.run(["true"], check=True)), b"x", tmp_path)


def test_a_hang_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.targets.HUNG", 0.2)
    with pytest.raises(FoundError, match=r"^it took more than 0\.2 s: b'x'$"):
        tried(lambda data, folder: time.sleep(30), b"x", tmp_path)


def test_an_error_of_ours_is_no_crash(tmp_path: Path) -> None:
    def refusing(data: bytes, folder: Path) -> None:
        raise DataError("no")

    assert tried(refusing, b"x", tmp_path) < 1


def test_the_script_writes_a_record(tmp_path: Path) -> None:
    out = tmp_path / "fuzz.json"
    script = [sys.executable, "tests/fuzz/run.py", "--inputs", "30", "--target", "vectors", "--out", str(out)]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(out.read_text())["vectors"]["inputs"] >= 30
