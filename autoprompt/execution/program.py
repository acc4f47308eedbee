"""A program with its tests, what it may use, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["OUTCOMES", "Limits", "Outcome", "Program", "Ran"]

Outcome: TypeAlias = Literal["passed", "failed", "error", "timeout", "memory", "killed", "forbidden"]

OUTCOMES: dict[Outcome, str] = {
    "passed": "every test holds",
    "failed": "a test does not hold",
    "error": "program or test raises, cannot be read, or ends early",
    "timeout": "the time is over",
    "memory": "the memory is not enough",
    "killed": "ended by a signal, or for what it wrote",
    "forbidden": "it wanted what no program may",
}


@dataclass(frozen=True)
class Program:
    """Python source, and the tests that judge it: each a piece of source that raises where it does not hold.

    setup: source that runs after the program and before the tests (it may use what the program defines).
    """

    source: str
    tests: tuple[str, ...]
    setup: str = ""


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    seconds: by the clock, and of CPU time. memory: bytes of address space. processes: the program and its threads
    together; it can start no other process in any case. output: bytes that it may print. files: bytes that it may
    write to its folder.
    """

    seconds: float = 10.0
    memory: int = 512 * 2**20
    processes: int = 8
    output: int = 64 * 2**10
    files: int = 16 * 2**20


@dataclass(frozen=True)
class Ran:
    """What came of a program; `reason` is empty where it passed."""

    passed: bool
    outcome: Outcome
    reason: str
