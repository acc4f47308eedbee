"""Where a training run stands, written after each epoch, so that one that was killed goes on from there.

    <folder>/epoch-3/
        state.json                where the run stands, and the size and hash of each other file
        trainer_state.json        what transformers' Trainer counts
        weights.safetensors       what is trained, as it is after this epoch
        best.safetensors          the same of the best epoch, where that was another one than 0 and this
        optimizer.safetensors     the optimizer's tensors

A checkpoint is written under another name, flushed to the disk and renamed. Two are kept, so that
there is a whole one even when somebody has damaged the last.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from autoprompt.errors import ResultsError
from autoprompt.results import refused

__all__ = ["Checkpoint", "Checkpoints"]

_KEPT = 2
_NAME = re.compile(r"epoch-(\d+)(\.part)?")
_WEIGHTS, _BEST, _OPTIMIZER = "weights.safetensors", "best.safetensors", "optimizer.safetensors"
_STATE, _TRAINER = "state.json", "trainer_state.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a run stands after an epoch.

    weights: what is trained, and best: the same after the best epoch, None where that is epoch 0 or
    this one. optimizer: its tensors by name. state: everything else, as JSON has it. trainer: what
    transformers' Trainer counts, as JSON.
    """

    epoch: int
    weights: Mapping[str, Tensor]
    best: Mapping[str, Tensor] | None
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]
    trainer: str


class Checkpoints:
    """The checkpoints of one run in a folder. key: what the run was asked; those of another are replaced."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}"

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and let go of those that are not needed any more.

        Raises ResultsError when the system refuses it, as on a full disk.
        """
        part = self.folder / f"epoch-{checkpoint.epoch}.part"
        try:
            self._put(checkpoint, part)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)  # a full disk gets its space back
            told = refused(error, part)
            if told is None:
                raise
            raise ResultsError(told) from error
        self._tidy(checkpoint.epoch)

    def _put(self, checkpoint: Checkpoint, part: Path) -> None:
        """Write a checkpoint into `part`, through to the disk, and give it its name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        tensors = {_WEIGHTS: checkpoint.weights, _BEST: checkpoint.best, _OPTIMIZER: checkpoint.optimizer}
        for name, found in tensors.items():
            if found is not None:
                save_file({key: tensor.contiguous() for key, tensor in found.items()}, part / name)
        (part / _TRAINER).write_text(checkpoint.trainer, encoding="utf-8")
        files = {path.name: [path.stat().st_size, _hash(path)] for path in sorted(part.iterdir())}
        state = {"key": self.key, "epoch": checkpoint.epoch, "files": files, "state": dict(checkpoint.state)}
        (part / _STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        for path in (*part.iterdir(), part):
            _flush(path)
        shutil.rmtree(self.path(checkpoint.epoch), ignore_errors=True)  # a damaged one of the same epoch
        part.rename(self.path(checkpoint.epoch))
        _flush(self.folder)

    def latest(self) -> Checkpoint | None:
        """The last whole checkpoint of this run, or None."""
        for epoch in sorted(self._epochs(), reverse=True):
            found = self.read(epoch)
            if found is not None:
                return found
        return None

    def _epochs(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir() if path.is_dir())
        return [int(match[1]) for match in matches if match and not match[2]]

    def read(self, epoch: int) -> Checkpoint | None:
        """The checkpoint after an epoch; None when there is none of this run, or it is damaged."""
        folder = self.path(epoch)
        try:
            about = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            if about["key"] != self.key or about["epoch"] != epoch:
                return None
            for name, (size, mark) in about["files"].items():
                if (folder / name).stat().st_size != size or _hash(folder / name) != mark:
                    return None
            best = load_file(folder / _BEST) if _BEST in about["files"] else None
            weights, optimizer = load_file(folder / _WEIGHTS), load_file(folder / _OPTIMIZER)
            trainer = (folder / _TRAINER).read_text(encoding="utf-8")
            return Checkpoint(epoch, weights, best, optimizer, about["state"], trainer)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
            return None  # it is not whole; an earlier one may be

    def _tidy(self, newest: int) -> None:
        """Remove checkpoints of other runs, of what was asked otherwise, and the oldest ones."""
        for path in sorted(self.folder.iterdir()):
            match = _NAME.fullmatch(path.name)
            if match and (match[2] or not newest - _KEPT < int(match[1]) <= newest or not self._is_own(path)):
                shutil.rmtree(path, ignore_errors=True)

    def _is_own(self, path: Path) -> bool:
        try:
            return bool(json.loads((path / _STATE).read_text(encoding="utf-8"))["key"] == self.key)
        except (OSError, ValueError, KeyError, TypeError):
            return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _flush(path: Path) -> None:
    """Bring a file, or a folder's list of files, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
