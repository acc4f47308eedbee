"""The energy that a machine takes, as its own counters tell it: NVIDIA's of a GPU, RAPL's of the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

__all__ = ["JOULES", "POWERCAP", "Counter", "Meter", "gpu_counter", "open_meter", "package_counters"]

JOULES = 3_600_000  # of a kilowatt-hour
POWERCAP = Path("/sys/class/powercap")

_EVERY = 20.0  # seconds between two looks: RAPL's counter of a large machine goes round within minutes

Read = Callable[[], int | None]


class Counter:
    """A counter of energy that only grows, and may begin anew.

    read: what it shows now, None where it cannot be read. unit: joules of one step of it. span: how much it counts
    before it begins anew; 0 for one that never does.
    """

    def __init__(self, read: Read, unit: float, span: int = 0) -> None:
        self._read, self._unit, self._span = read, unit, span
        self._shown = read()
        self._steps = 0

    def joules(self) -> float | None:
        """Joules since this was made; None from the moment on at which the counter could not be read, or went back.

        It has to be asked at least once each time that the counter goes round.
        """
        now = None if self._shown is None else self._read()
        step = -1 if now is None or self._shown is None else now - self._shown
        if now is not None and step < 0:
            step += self._span
        if step < 0:
            self._shown = None
            return None
        self._steps, self._shown = self._steps + step, now
        return self._steps * self._unit


class Meter:
    """What all counters of a run's devices say together; a context manager, inside which none goes round unseen.

    The counters are the devices': what other programs take there meanwhile is in them too.
    """

    def __init__(self, counters: Sequence[Counter] = ()) -> None:
        self._counters = list(counters)
        self._asking = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> Meter:
        if self._counters:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY):
            self.kwh()

    def kwh(self) -> float | None:
        """Kilowatt-hours since this was made; None where a device does not tell."""
        with self._asking:
            found = [counter.joules() for counter in self._counters]
        told = [joules for joules in found if joules is not None]
        return sum(told) / JOULES if found and len(told) == len(found) else None


def open_meter(
    device: str,
    uuid: str | None = None,
    powercap: Path = POWERCAP,
    gpu: Callable[[str], Counter | None] | None = None,
) -> Meter:
    """A meter of what a model takes on a kind of device: "cuda", "cpu", or another, that tells nothing.

    uuid: of the GPU. powercap: the folder of RAPL's counters. gpu: where a GPU's counter comes from; `gpu_counter`
    where it is not given. On a GPU the CPU counts too where it tells; the CPU alone would be no answer there.
    """
    if device == "cpu":
        return Meter(package_counters(powercap))
    counter = (gpu or gpu_counter)(uuid) if device == "cuda" and uuid is not None else None
    return Meter() if counter is None else Meter([counter, *package_counters(powercap)])


# -- NVIDIA ----------------------------------------------------------------------------------------


def gpu_counter(uuid: str) -> Counter | None:
    """The counter of the GPU of a UUID ("GPU-…"), from Volta on, in millijoules since its driver was loaded.

    None where nvidia-ml-py is not installed, or NVIDIA's library does not tell.
    """
    try:
        import pynvml
    except ImportError:
        return None

    def read() -> int | None:
        try:
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(device))
        except pynvml.NVMLError:
            return None

    try:
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return None
    return None if read() is None else Counter(read, 1e-3)


# -- RAPL ------------------------------------------------------------------------------------------


def package_counters(powercap: Path = POWERCAP) -> list[Counter]:
    """The counters of all CPU packages, in microjoules; none where one of them cannot be read.

    Beside the packages there are zones of their parts, and one of the whole board: what is in those is counted in the
    packages, or is not the CPU's. Many systems let only root read them.
    """
    zones = sorted(powercap.glob("intel-rapl:*"))
    packages = [zone for zone in zones if (_text(zone / "name") or "").startswith("package")]
    if any(_number(zone / "energy_uj") is None for zone in packages):
        return []
    return [
        Counter(partial(_number, zone / "energy_uj"), 1e-6, _number(zone / "max_energy_range_uj") or 0)
        for zone in packages
    ]


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
