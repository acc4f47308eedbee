"""Our side of a metric's own process: started when it is needed, ended when it hangs, started again when it died."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import IO

from autoprompt.errors import MetricError
from autoprompt.metrics.returned import FEEDBACK
from autoprompt.metrics.wire import HEAD, Frame, received

__all__ = ["Process"]

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from autoprompt.metrics.child import serve; serve(int(sys.argv[2]))"
)
_HEARD, _SHOWN = 8192, 300  # bytes kept of what the user's code prints, and characters shown of them
_LONGEST = 2**20  # bytes of an answer beside its numbers and texts
_TEXT = 12 * FEEDBACK + 4  # bytes that a text of feedback takes at most: of a character two escapes of six
_AT_ONCE = 2**18  # bytes


class Process:
    """A Python process with our packages, and the pipes to it. One caller at a time.

    called: how errors name what runs in it. It ends with this object, and with this process,
    whatever ends that. Needs a POSIX system.
    """

    def __init__(self, called: str) -> None:
        self.called = called
        self.died = False  # by itself, while it was asked
        self.owner = os.getpid()  # a fork of this process has the pipes too, and must not use them
        lifeline, kept = os.pipe()
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-c", _CODE, json.dumps(list(map(str, sys.path))), str(lifeline)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(lifeline,),
                start_new_session=True,  # Ctrl-C is ours, and what it starts ends with it
            )
        except OSError as error:
            os.close(kept)
            raise MetricError(f"{called} cannot have a process of its own: {error}.") from None
        finally:
            os.close(lifeline)
        pipes = (self._child.stdin, self._child.stdout, self._child.stderr)
        self._requests, self._answers, self._prints = (pipe.fileno() for pipe in pipes if pipe is not None)
        for descriptor in (self._requests, self._answers, self._prints):
            os.set_blocking(descriptor, False)
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self._poll.register(self._prints, select.POLLIN)
        self._inbox, self._heard, self._hears = bytearray(), bytearray(), True
        self.end = weakref.finalize(self, _end, self._child, kept, [p for p in pipes if p is not None], self.owner)

    @property
    def lives(self) -> bool:
        """Whether it can be asked, from this process. What died since it was asked has closed its answers."""
        ours = self.end.alive and self.owner == os.getpid()
        return ours and not any(descriptor == self._answers for descriptor, _ in self._poll.poll(0))

    def ask(self, frames: Iterable[bytes], count: int, seconds: float, numbers: int = 0) -> list[Frame]:
        """Send frames, and read `count` answers, each of `numbers` float64 and as many texts at most.

        Each answer may take `seconds` from the one before. Raises MetricError when it takes longer,
        when the process died, or when it says what cannot be read; the process is ended then.
        """
        self._hear()  # what was printed since
        self._heard.clear()
        done = False
        try:
            found = self._exchange(iter(frames), count, seconds, numbers)
            done = True
            return found
        finally:
            if not done:
                self.end()

    def printed(self) -> str:
        """The last that the user's code printed while it was asked, as the end of an error's text."""
        self._hear()
        text = self._heard.decode("utf-8", "replace")
        text = "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text.replace("\n", " | "))
        text = text.strip(" |")
        return f" It printed: {text[-_SHOWN:]}" if text else ""

    # -- the pipes ---------------------------------------------------------------------------------

    def _exchange(self, frames: Iterator[bytes], count: int, seconds: float, most: int) -> list[Frame]:
        found: list[Frame] = []
        outbox = memoryview(b"")
        ends = time.monotonic() + seconds
        while len(found) < count:
            outbox = self._send(outbox, frames)
            if not self._wait(ends, bool(outbox)):
                raise MetricError(
                    f"{self.called} did not answer within {seconds:g} seconds and was ended. "
                    f"Make it faster, or raise metric_seconds.{self.printed()}"
                )
            self._hear()
            if self._read():
                self.died = True
                raise MetricError(self._obituary())
            while len(found) < count and (answer := self._parsed(most)) is not None:
                found.append(answer)
                ends = time.monotonic() + seconds
        return found

    def _send(self, outbox: memoryview, frames: Iterator[bytes]) -> memoryview:
        """Write what the pipe takes, so that the next question lies there when one is answered; gives back the rest."""
        try:
            while outbox := outbox or memoryview(next(frames, b"")):
                outbox = outbox[os.write(self._requests, outbox[:_AT_ONCE]) :]
        except BlockingIOError:
            return outbox
        except BrokenPipeError:  # it died: the end of its answers will say so
            return outbox[:0]
        return outbox

    def _wait(self, ends: float, writes: bool) -> bool:
        """Wait until a pipe has something for us, or takes something; False when it is too late."""
        if writes:
            self._poll.register(self._requests, select.POLLOUT)
        left = ends - time.monotonic()
        ready = left > 0 and bool(self._poll.poll(1000 * left))
        if writes:
            self._poll.unregister(self._requests)
        return ready

    def _hear(self) -> None:
        """Take what was printed, so that the pipe never fills; the last of it is kept."""
        with contextlib.suppress(BlockingIOError):  # no more is there
            for _ in range(64 if self._hears else 0):  # who prints without end must not keep us here
                heard = os.read(self._prints, _AT_ONCE)
                if not heard:
                    self._poll.unregister(self._prints)
                    self._hears = False
                    break
                self._heard += heard
                del self._heard[:-_HEARD]

    def _read(self) -> bool:
        """Take what was answered; True at the end of all answers."""
        try:
            while part := os.read(self._answers, _AT_ONCE):
                self._inbox += part
                if len(part) < _AT_ONCE:
                    return False
        except BlockingIOError:
            return False
        return True

    def _parsed(self, most: int) -> Frame | None:
        """The next whole frame of what was answered. Raises MetricError when it is none."""
        if len(self._inbox) < HEAD.size:
            return None
        text, numbers = HEAD.unpack_from(self._inbox)
        size = HEAD.size + text + numbers
        if text > _LONGEST + _TEXT * (most + 1) or numbers > 8 * most:
            raise MetricError(f"{self.called} wrote to the pipe of its answers; it must return them.")
        if len(self._inbox) < size:
            return None
        whole = memoryview(bytes(self._inbox[:size]))
        del self._inbox[:size]
        at = 0

        def read(count: int) -> bytes:
            nonlocal at
            at += count
            return bytes(whole[at - count : at])

        try:
            found = received(read)
        except (ValueError, RecursionError):
            found = None
        if found is None or not isinstance(found[0], dict):
            raise MetricError(f"{self.called} wrote to the pipe of its answers; it must return them.")
        return found

    def _obituary(self) -> str:
        _kill(self._child)  # what it has started; it is dead itself, or has closed its pipe and will not answer
        code = self._child.wait()
        how = f"was killed by {_signal(-code)}" if code < 0 else "ended"
        return f"{self.called} gave no answer: its process {how} (exit code {code}).{self.printed()}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is None:  # not waited for yet: the id is still its own
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


def _end(child: subprocess.Popen[bytes], lifeline: int, pipes: Iterable[IO[bytes]], owner: int) -> None:
    """Kill a process and all that it has started, and close what we have of it."""
    if os.getpid() == owner:
        _kill(child)
        child.wait()
    else:  # it is the child of the process that was forked
        child.returncode = 0
    for pipe in pipes:
        with contextlib.suppress(OSError):
            pipe.close()
    os.close(lifeline)
