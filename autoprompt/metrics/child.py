"""A metric's own process: it loads the user's function once, and calls it on what it is sent.

It ends with the process that started it, however that ended: a pipe that nothing is ever written
to closes then, and the system ends this process, even in the middle of the user's function.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib
import importlib.util
import os
import select
import signal
import sys
import types
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any

from autoprompt.metrics.base import Metric, called
from autoprompt.metrics.wire import frame, outcome_in, received, returned_out

__all__ = ["serve"]

_LONGEST = 2000  # characters of an error's text


def serve(lifeline: int) -> None:
    """Answer what comes on standard input until it ends. lifeline: a pipe's end that closes with our starter."""
    requests, answers = _own_pipes()
    _end_with(lifeline)
    found = received(requests.read)
    if found is not None:
        answer, metric = _loaded(found[0])
        answers.write(frame(answer))
        answers.flush()
        file = str(found[0].get("path", ""))
        while metric is not None and (asked := received(requests.read)) is not None:
            outcome = outcome_in(asked)
            answers.write(_answer(metric, outcome, asked[0].get("proxy") is True, file))
            answers.flush()
    os._exit(0)  # whatever threads the user's file has started


def _own_pipes() -> tuple[BufferedReader, BufferedWriter]:
    """Standard input and output for ourselves; the user's code reads nothing, and writes where errors go."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                line_buffering=True, errors="backslashreplace"
            )  # what was said last is there after a crash
    return requests, answers


def _end_with(lifeline: int) -> None:
    """Have the system end this process when the other end of the pipe closes.

    By a signal and not by a thread: a thread does not run while, say, a regular expression is matched.
    """
    # on Linux the signal's default is to end the process; elsewhere it is to be ignored
    signal.signal(signal.SIGIO, signal.SIG_DFL if sys.platform == "linux" else lambda *_: os._exit(0))
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it closed before
        os._exit(0)


def _loaded(wanted: dict[str, Any]) -> tuple[dict[str, Any], Metric | None]:
    """What to say of the metric that is wanted, and the metric, if it is there."""
    try:
        if "evaluate" in wanted:
            holder, found = None, _from_evaluate(wanted)
        else:
            holder, found = _from_file(wanted) if "path" in wanted else _from_package(wanted)
    except BaseException as error:  # the user's own file may raise anything, and may call exit
        return _told(error, str(wanted.get("path", ""))), None
    if not isinstance(found, Metric):
        names = sorted(k for k, v in vars(holder).items() if isinstance(v, Metric)) if holder else []
        return {"names": names, "kind": type(found).__name__}, None
    return {
        "name": str(found.name),
        "maximize": bool(found.maximize),
        "arguments": list(found.arguments),
        "proxy": found.stand_in is not None,
        "worst": None if found.worst is None else float(found.worst),
    }, found


def _from_file(wanted: dict[str, Any]) -> tuple[types.ModuleType, Any]:
    """The module of a file as it was read when the run began, and its attribute."""
    path = Path(wanted["path"])
    specification = importlib.util.spec_from_file_location(f"autoprompt_metric_{path.stem}", path)
    module = types.ModuleType("") if specification is None else importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    exec(compile(wanted["source"].encode("latin-1"), str(path), "exec"), vars(module))
    return module, getattr(module, wanted["attribute"], None)


def _from_package(wanted: dict[str, Any]) -> tuple[None, Any]:
    """What an entry point names."""
    module = importlib.import_module(wanted["module"])
    return None, functools.reduce(getattr, filter(None, wanted["attribute"].split(".")), module)


def _from_evaluate(wanted: dict[str, Any]) -> Metric:
    from autoprompt.metrics.evaluated import load_evaluated

    return load_evaluated(wanted["evaluate"], wanted["key"], wanted["maximize"])


def _answer(metric: Metric, outcome: Any, proxy: bool, file: str) -> bytes:
    function = metric.stand_in if proxy and metric.stand_in is not None else metric.function
    try:
        answer = returned_out(called(function, outcome), len(outcome.targets))
    except BaseException as error:  # a user's function may raise anything, and may call exit
        answer = frame(_told(error, file))
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the user's code may have closed it
        sys.stdout.flush()
    return answer


def _told(error: BaseException, file: str) -> dict[str, Any]:
    """An error's type and text, and the last line of the user's file that it went through."""
    try:
        text = str(error)[:_LONGEST]
    except Exception:  # a user's error may fail to say what it is
        text = ""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if file and trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return {"raised": type(error).__name__, "text": text, "line": line}
