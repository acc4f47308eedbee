"""What goes through the pipes between this process and a metric's own: JSON, and numbers as they are.

A frame is two lengths in bytes (4 of the JSON, 8 of the numbers, little-endian), the JSON, and the
numbers as float64: a probability arrives with the bits that it was sent with. Nothing is pickled,
so what the other side sends can be a wrong number and no more.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from autoprompt.metrics.base import Outcome, Returned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["HEAD", "Frame", "frame", "outcome_in", "outcome_out", "received", "returned_in", "returned_out"]

HEAD = struct.Struct("<IQ")
_FLOATS = "<f8"
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


def outcome_out(outcome: Outcome) -> bytes:
    """An outcome as a frame."""
    import numpy as np

    places = {target: at for at, target in enumerate(dict.fromkeys(outcome.targets))}
    message = {
        "labels": outcome.labels,
        "targets": list(places),
        "at": [places[target] for target in outcome.targets],
        "shape": outcome.probabilities.shape,
    }
    return frame(message, np.ascontiguousarray(outcome.probabilities, _FLOATS).tobytes())


def outcome_in(found: Frame) -> Outcome:
    """The outcome of a frame; its probabilities may be written to."""
    import numpy as np

    message, numbers = found
    targets = tuple(message["targets"][at] for at in message["at"])
    return Outcome(targets, np.frombuffer(numbers, _FLOATS).reshape(message["shape"]), tuple(message["labels"]))


def returned_out(returned: Returned, size: int) -> bytes:
    """What a function returned for `size` examples as a frame; of wrong shapes only the shape."""
    import numpy as np

    if returned.values is None:
        return frame({"kind": returned.kind, "shown": returned.shown})
    values = returned.values
    fits = values.shape in {(), (size,)}
    return frame({"shape": values.shape}, np.ascontiguousarray(values, _FLOATS).tobytes() if fits else b"")


def returned_in(found: Frame, size: int) -> Returned:
    """What such a frame says. Raises KeyError, TypeError or ValueError where it says nothing of the kind."""
    import numpy as np

    message, numbers = found
    if "kind" in message:
        return Returned(None, str(message["kind"]), str(message["shown"]))
    shape = tuple(map(int, message["shape"]))
    values: NDArray[np.float64] = np.frombuffer(numbers, _FLOATS)
    if shape in {(), (size,)}:
        return Returned(values.reshape(shape).copy())
    return Returned(np.broadcast_to(np.float64(0), shape))  # only its shape is told
