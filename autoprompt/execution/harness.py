"""Runs a program and its tests inside the walls, and says how that went; imports the standard library alone.

The word that a program passed is a number that only one function here knows: an audit hook, of which the
interpreter hands out no reference. It says the word when the frame that runs the steps asks, and only after it has
seen that frame run every step in its order. Whatever else ends the process leaves the word unsaid.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any

__all__ = ["judge"]

_DONE = "autoprompt.tests_held"
_LONGEST = 300  # characters of a reason
_REACHES_IN = {"gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys.settrace", "sys.setprofile"}


def judge(source: str, setup: str, tests: list[str], nonce: str, verdict: int) -> None:
    """Run the program, its setup and each test; write to the pipe `verdict` what came of it, and end the process.

    Written is the nonce where all tests held, and otherwise JSON with `outcome` and `reason`.
    """
    say = _speaker(verdict)
    names = ["", "setup: ", *(f"test {at}: " for at in range(1, len(tests) + 1))]
    steps: list[CodeType] = []
    for name, text in zip(names, [source, setup, *tests], strict=True):
        try:
            steps.append(compile(text, "<program>", "exec", dont_inherit=True))
        except BaseException as error:  # a text may break the compiler in any way
            say("memory" if isinstance(error, MemoryError) and not name else "error", name + _shown(error))
    module = ModuleType("program")  # no __main__: what a program does when it is started is no part of it
    sys.modules["program"] = module
    if any("random" in text for text in (source, setup, *tests)):
        import random

        random.seed(0)
    _guard(tuple(steps), nonce.encode(), verdict)
    del nonce  # the program can look at this frame
    _run(tuple(zip(steps, names, strict=True)), module.__dict__, exec, sys.audit, say, _mender())


def _run(
    steps: tuple[tuple[CodeType, str], ...],
    space: dict[str, Any],
    run: Callable[[CodeType, dict[str, Any]], None],
    audit: Callable[[str], None],
    say: Callable[[str, str], None],
    mend: Callable[[dict[str, Any]], None],
) -> None:
    outcome, shown = _outcome, _shown
    for code, name in steps:
        try:
            run(code, space)
        except BaseException as error:  # a program may raise anything, also the wish to exit
            say(outcome(error, name), name + shown(error))
        mend(space)
    audit(_DONE)
    say("error", "The program changed what judges it.")


def _outcome(error: BaseException, name: str) -> str:
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, PermissionError):
        return "forbidden"
    return "failed" if isinstance(error, AssertionError) and name.startswith("test") else "error"


def _shown(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        text = str(error)[:_LONGEST]
    except BaseException:  # the program's own exception may raise anything when it is shown
        text = ""
    return f"{kind}: {text}" if text else kind


def _speaker(verdict: int) -> Callable[[str, str], None]:
    """What says an outcome other than passed, and ends the process; made of what no program can replace later."""
    write, leave, encode = os.write, os._exit, json.JSONEncoder().encode

    def say(outcome: str, reason: str) -> None:
        try:
            write(verdict, encode({"outcome": outcome, "reason": reason}).encode())
        finally:
            leave(1)

    return say


def _mender() -> Callable[[dict[str, Any]], None]:
    """What undoes changes to the built-in functions: tests use them."""
    known = builtins.__dict__
    kept = dict(known)
    clear, update = known.clear, known.update

    def mend(space: dict[str, Any]) -> None:
        clear()
        update(kept)
        space["__builtins__"] = known

    return mend


def _guard(steps: tuple[CodeType, ...], nonce: bytes, verdict: int) -> None:
    """Two audit hooks: one refuses what reaches into the interpreter, the other knows the word.

    They are two, as an exception shows the frame that raised it: the one that knows raises none.
    """
    frame_of, write, leave, count = sys._getframe, os.write, os._exit, len(steps)
    begun = 0
    runner: FrameType | None = None

    def know(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal begun, runner
        if event == "exec" and begun < count and arguments[0] is steps[begun]:
            frame = frame_of(1)
            runner = runner or frame
            begun += frame is runner
        elif event == _DONE and begun == count and frame_of(1) is runner:
            write(verdict, nonce)
            leave(0)

    refused, reaches_in, text = PermissionError, frozenset(_REACHES_IN), str

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        name = text(arguments[0]).rpartition(".")[2] if event == "import" else event.partition(".")[0]
        if event in reaches_in or name in ("ctypes", "_ctypes"):
            raise refused(f"{event} of {name}" if event == "import" else event)

    sys.addaudithook(know)
    sys.addaudithook(refuse)
