"""Processes that begin at once: forked from one that has loaded the libraries."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.context import ForkServerContext
from pathlib import Path

__all__ = ["crew"]


def crew(*modules: str) -> ForkServerContext:
    """Where such processes come from. modules: of the tests, which are loaded before."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(modules))
    return found
