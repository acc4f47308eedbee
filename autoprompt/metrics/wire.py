"""What goes through the pipes between this process and a metric's own: JSON, and numbers as they are.

A frame is two lengths in bytes (4 of the JSON, 8 of the numbers, little-endian), the JSON, and the
numbers as float64: a probability arrives with the bits that it was sent with. Nothing is pickled,
so what the other side sends can be a wrong number and no more.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoprompt.metrics.outcome import Outcome
from autoprompt.metrics.returned import ARGUMENTS, Returned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["HEAD", "Frame", "frame", "outcome_in", "outcome_out", "received", "returned_in", "returned_out"]

HEAD = struct.Struct("<IQ")
_FLOATS = "<f8"
_LONGEST = 300  # characters of what is wrong
Frame = tuple[dict[str, Any], bytearray]


def frame(message: Mapping[str, Any], numbers: bytes = b"") -> bytes:
    """A message with its numbers, as bytes."""
    text = json.dumps(message).encode()  # ASCII alone: lone surrogates pass too
    return HEAD.pack(len(text), len(numbers)) + text + numbers


def received(read: Callable[[int], bytes]) -> Frame | None:
    """The next frame of a pipe, or None at its end; `read` gives as many bytes as it is asked for, fewer at the end."""
    head = read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    text, numbers = HEAD.unpack(head)
    body = read(text + numbers)
    return None if len(body) < text + numbers else (json.loads(body[:text]), bytearray(body[text:]))


def outcome_out(outcome: Outcome, asked: Collection[str] = ARGUMENTS, proxy: bool = False) -> bytes:
    """An outcome as a frame.

    asked: what the function asks for; rows are sent only then. proxy: whether the metric's proxy is called on it.
    """
    import numpy as np

    message: dict[str, Any] = {
        "labels": outcome.labels,
        "targets": _once(outcome.targets),
        "shape": outcome.probabilities.shape,
        "proxy": proxy,
    }
    if outcome.answers is not None:
        message["answers"] = _once(outcome.answers)
    if outcome.references:
        message["references"] = _once(outcome.references)
    if outcome.rows and "rows" in asked:
        sent = {id(row): dict(row) for row in outcome.rows}  # resamples hold the same ones
        places = {key: at for at, key in enumerate(sent)}
        message["rows"] = [list(sent.values()), [places[id(row)] for row in outcome.rows]]
    return frame(message, np.ascontiguousarray(outcome.probabilities, _FLOATS).tobytes())


def outcome_in(found: Frame) -> Outcome:
    """The outcome of a frame; its probabilities may be written to."""
    import numpy as np

    message, numbers = found
    return Outcome(
        tuple(_all(message["targets"])),
        np.frombuffer(numbers, _FLOATS).reshape(message["shape"]),
        tuple(message["labels"]),
        tuple(_all(message["answers"])) if "answers" in message else None,
        tuple(tuple(further) for further in _all(message.get("references", ((), ())))),
        tuple(_all(message.get("rows", ((), ())))),
    )


def _once(items: Sequence[Any]) -> list[list[Any]]:
    """The different items, and at which of these each is."""
    places = {item: at for at, item in enumerate(dict.fromkeys(items))}
    return [list(places), [places[item] for item in items]]


def _all(sent: Sequence[Sequence[Any]]) -> list[Any]:
    different, places = sent
    return [different[at] for at in places]


def returned_out(returned: Returned, size: int) -> bytes:
    """What a function returned for `size` examples as a frame; of wrong shapes only the shape, of too many texts only
    one more than there are examples."""
    import numpy as np

    if returned.values is None:
        return frame({"kind": returned.kind, "shown": returned.shown})
    texts = returned.feedback and returned.feedback[: size + 1]
    values = returned.values
    fits = values.shape in {(), (size,)}
    return frame(
        {"shape": values.shape, "feedback": texts, "wrong": returned.wrong[:_LONGEST]},
        np.ascontiguousarray(values, _FLOATS).tobytes() if fits else b"",
    )


def returned_in(found: Frame, size: int) -> Returned:
    """What such a frame says. Raises KeyError, TypeError or ValueError where it says nothing of the kind."""
    import numpy as np

    message, numbers = found
    if "kind" in message:
        return Returned(None, str(message["kind"]), str(message["shown"]))
    shape, told = tuple(map(int, message["shape"])), message.get("feedback")
    feedback = None if told is None else tuple(str(text) for text in told)
    values: NDArray[np.float64] = np.frombuffer(numbers, _FLOATS)
    if shape in {(), (size,)}:
        return Returned(values.reshape(shape).copy(), feedback=feedback, wrong=str(message.get("wrong", "")))
    return Returned(np.broadcast_to(np.float64(0), shape))  # only its shape is told
