"""Prompts as they are kept with their trials, and made again from there."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial
from safetensors import SafetensorError
from safetensors.numpy import load, load_file

from autoprompt.errors import ResultsError
from autoprompt.prompt import Prompt
from autoprompt.results import write_bytes
from autoprompt.soft import Array
from autoprompt.space import Space, Stored
from autoprompt.study.records import Asked

__all__ = ["Keeper"]


class Keeper:
    """Keeps what the space cannot make again.

    folder: where vectors lie, by the fingerprint of their prompt, written through to the disk before
    the trial that names them; None puts them into the trial's record, for workers that share no disk.
    """

    def __init__(self, space: Space, folder: Path | None) -> None:
        self._space, self._folder = space, folder

    def kept(self, asked: Asked) -> dict[str, Any]:
        """What of a candidate's prompt goes into its trial."""
        prompt = asked.prompt
        if prompt is None or asked.branch == "baseline" or (asked.params and prompt.soft is None):
            return {}
        found: dict[str, Any] = {}
        if prompt.soft is not None:
            content = prompt.vector_bytes() or b""
            if self._folder is None:
                found["vectors"] = base64.b64encode(content).decode()
            else:
                write_bytes(self._file_of(prompt.fingerprint), content)
        record = prompt.to_dict()
        if prompt.retrieval is not None and prompt.retrieval.pool == self._space.shown:
            record["retrieval"]["pool"] = None  # the space has it, and it is long
        return {"prompt": record, **found}

    def prompt(self, trial: FrozenTrial) -> Prompt:
        """The prompt of a trial. Raises ResultsError when its vectors are not there, or not as they were."""
        found = self._made(trial)
        if found.soft is not None and found.fingerprint != trial.user_attrs["fingerprint"]:
            raise ResultsError(
                f"{self._file_of(trial.user_attrs['fingerprint'])}, the vectors of a trial, are not as they were "
                "written. Put back a copy of the folder, or give the run another --name."
            )
        return found

    def _made(self, trial: FrozenTrial) -> Prompt:
        attrs = trial.user_attrs
        if attrs["kind"] == "baseline":
            return self._space.baseline
        if attrs["kind"] == "discrete" and trial.params:
            return self._space.discrete(Stored(trial.params))
        record = attrs["prompt"]
        vectors = self._vectors(attrs) if record["soft"] else None
        retrieval = record["retrieval"]
        if retrieval is None or retrieval["pool"] is not None:
            return Prompt.from_dict(record, vectors)
        prompt = Prompt.from_dict({**record, "retrieval": None}, vectors)
        return replace(prompt, retrieval=self._space.retrieved(retrieval["number"]))

    def _vectors(self, attrs: dict[str, Any]) -> Array:
        if "vectors" in attrs:
            found = load(base64.b64decode(attrs["vectors"]))
        else:
            path = self._file_of(attrs["fingerprint"])
            try:
                found = load_file(path)
            except (OSError, SafetensorError) as error:
                raise ResultsError(
                    f"{path}, the vectors of a trial, cannot be read ({error}). Put back a copy of the folder, "
                    "or give the run another --name."
                ) from None
        return np.asarray(found["vectors"], dtype=np.float32)

    def _file_of(self, fingerprint: str) -> Path:
        return (self._folder or Path()) / "vectors" / f"{fingerprint}.safetensors"
