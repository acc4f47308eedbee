"""The energy that a machine takes, as its counters tell it."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from told import finished, records

from autoprompt import energy, events
from autoprompt.energy import Counter, Meter, gpu_counter, open_meter, package_counters
from autoprompt.models import gpu_uuid
from autoprompt.report import write_page, write_report
from autoprompt.results import read_journal
from autoprompt.run import run

TOPICS = (("We won the match", "sports"), ("The bank raised rates", "money"))
SPAN = 262_143_328_850
UUID = "GPU-01234567-89ab-cdef-0123-456789abcdef"


def zone(folder: Path, number: str, name: str, used: int, span: int | None = SPAN) -> Path:
    """A zone as the kernel shows it; its counter's file."""
    place = folder / f"intel-rapl:{number}"
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "energy_uj").write_text(f"{used}\n")
    if span is not None:
        (place / "max_energy_range_uj").write_text(f"{span}\n")
    return place / "energy_uj"


def shows(*values: int | None) -> Callable[[], int | None]:
    """A counter's face that shows these, one after another, and then the last for ever."""
    left = list(values)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


# -- one counter ---------------------------------------------------------------------------------


def test_a_counter_counts_from_when_it_was_made() -> None:
    counter = Counter(shows(1_000, 1_000, 3_500), 1e-3)
    assert counter.joules() == 0.0
    assert counter.joules() == pytest.approx(2.5)
    assert counter.joules() == pytest.approx(2.5)


def test_a_counter_that_goes_round_goes_on() -> None:
    counter = Counter(shows(90, 10, 95, 5), 1.0, 100)
    assert [counter.joules() for _ in range(3)] == [20, 105, 115]


def test_a_counter_without_a_span_that_goes_back_tells_nothing_any_more() -> None:
    counter = Counter(shows(90, 10, 95), 1.0)
    assert [counter.joules() for _ in range(3)] == [None, None, None]


def test_a_counter_that_goes_back_by_more_than_its_span_tells_nothing() -> None:
    assert Counter(shows(900, 10), 1.0, 100).joules() is None


@pytest.mark.parametrize("values", [(None, 5, 6), (5, None, 6)])
def test_a_counter_that_could_not_be_read_once_tells_nothing_any_more(values: Sequence[int | None]) -> None:
    counter = Counter(shows(*values), 1.0)
    assert (counter.joules(), counter.joules()) == (None, None)


# -- RAPL ------------------------------------------------------------------------------------------


def test_the_packages_are_counted_and_neither_their_parts_nor_the_board(tmp_path: Path) -> None:
    files = [zone(tmp_path, "0", "package-0", 0), zone(tmp_path, "1", "package-1", 0)]
    rest = [zone(tmp_path, "0:0", "core", 0), zone(tmp_path, "0:1", "dram", 0), zone(tmp_path, "2", "psys", 0)]
    (tmp_path / "intel-rapl").mkdir()
    (tmp_path / "intel-rapl-mmio:0").mkdir()
    meter = open_meter("cpu", powercap=tmp_path)
    assert meter.kwh() == 0.0
    for file in (*files, *rest):
        file.write_text("1800000000\n")
    assert meter.kwh() == pytest.approx(0.001)


def test_a_packages_counter_goes_round_at_its_own_span(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", SPAN - 1_000_000)
    [counter] = package_counters(tmp_path)
    file.write_text("2000000\n")
    assert counter.joules() == pytest.approx(3.0)


def test_a_package_that_does_not_say_its_span_is_counted_until_it_goes_back(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", 1_000_000, span=None)
    [counter] = package_counters(tmp_path)
    file.write_text("3000000\n")
    assert counter.joules() == pytest.approx(2.0)
    file.write_text("1000\n")
    assert counter.joules() is None


@pytest.mark.parametrize("text", ["", "many", "-5", "1.5", "\xff"])
def test_a_counter_that_shows_no_number_is_none(tmp_path: Path, text: str) -> None:
    zone(tmp_path, "0", "package-0", 1).write_bytes(text.encode("latin-1"))
    assert package_counters(tmp_path) == []


def test_where_one_package_cannot_be_read_none_is_counted(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 1)
    file = zone(tmp_path, "1", "package-1", 1)
    file.unlink()
    file.mkdir()  # reading it is an OSError, for root as well
    assert package_counters(tmp_path) == []
    assert open_meter("cpu", powercap=tmp_path).kwh() is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_counter_that_only_root_may_read_is_none(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 1).chmod(0)
    assert package_counters(tmp_path) == []


@pytest.mark.parametrize("name", ["nothing", "nothing/here"])
def test_a_machine_without_counters_tells_nothing(tmp_path: Path, name: str) -> None:
    assert open_meter("cpu", powercap=tmp_path / name).kwh() is None


def test_another_kind_of_device_tells_nothing(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 1)
    assert open_meter("mps", powercap=tmp_path).kwh() is None


# -- NVIDIA ----------------------------------------------------------------------------------------


def test_a_gpu_and_the_cpu_beside_it_are_counted_together(tmp_path: Path) -> None:
    file = zone(tmp_path, "0", "package-0", 0)
    asked: list[str] = []

    def gpu(uuid: str) -> Counter:
        asked.append(uuid)
        return Counter(shows(5_000_000, 5_000_000 + 1_800_000), 1e-3)

    meter = open_meter("cuda", UUID, tmp_path, gpu)
    file.write_text("1800000000")
    assert meter.kwh() == pytest.approx(0.001)
    assert asked == [UUID]


def test_of_a_gpu_that_does_not_tell_the_cpu_alone_is_no_answer(tmp_path: Path) -> None:
    zone(tmp_path, "0", "package-0", 0)
    assert open_meter("cuda", UUID, tmp_path, lambda uuid: None).kwh() is None
    assert open_meter("cuda", None, tmp_path, lambda uuid: Counter(shows(1), 1.0)).kwh() is None


class NoAnswerError(Exception):
    """What NVIDIA's library raises."""


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """NVIDIA's library with one GPU in it."""

    def handle(uuid: str) -> str:
        if uuid != UUID:
            raise NoAnswerError
        return "handle"

    def used(device: str) -> int:
        assert device == "handle"
        if fake.millijoules is None:
            raise NoAnswerError
        return int(fake.millijoules)

    fake = SimpleNamespace(
        NVMLError=NoAnswerError, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=handle, millijoules=7_000,
        nvmlDeviceGetTotalEnergyConsumption=used,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    return fake


def test_a_gpu_counts_in_millijoules(driver: SimpleNamespace) -> None:
    counter = gpu_counter(UUID)
    assert counter is not None
    driver.millijoules = 9_500
    assert counter.joules() == pytest.approx(2.5)


def test_a_gpu_that_stops_telling_is_none_from_then_on(driver: SimpleNamespace) -> None:
    meter = open_meter("cuda", UUID, Path("nothing"))
    assert meter.kwh() == 0.0
    driver.millijoules = None
    assert meter.kwh() is None


@pytest.mark.parametrize("trouble", ["no driver", "another GPU", "too old a GPU", "not installed"])
def test_a_gpu_that_cannot_be_asked_is_none(
    driver: SimpleNamespace, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise NoAnswerError

    match trouble:
        case "no driver":
            driver.nvmlInit = fail
        case "too old a GPU":
            driver.millijoules = None
        case "not installed":
            monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_counter("GPU-of-another" if trouble == "another GPU" else UUID) is None


def test_the_library_itself_has_what_is_asked_of_it() -> None:
    import pynvml

    for name in ("nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption", "NVMLError"):
        assert callable(getattr(pynvml, name))
    assert gpu_counter(UUID) is None  # without a driver, or without that GPU


def test_a_gpu_is_named_as_nvidias_tools_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_uuid(torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=UUID[4:]))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert gpu_uuid(torch.device("cuda", 1)) == UUID
    monkeypatch.setattr(torch.version, "cuda", None)  # AMD's devices say "cuda" too
    assert gpu_uuid(torch.device("cuda")) is None


# -- a run's meter -------------------------------------------------------------------------------


def test_a_counter_that_goes_round_many_times_is_asked_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, looked = iter([0, 0, 60, 20, 80, 40]), threading.Event()

    def read() -> int:
        value = next(seen, None)
        if value is None:
            looked.set()
        return 40 if value is None else value

    monkeypatch.setattr(energy, "_EVERY", 0.001)
    with Meter([Counter(read, energy.JOULES, 100)]) as meter:
        assert looked.wait(10)
    assert meter.kwh() == pytest.approx(240)


def test_a_meter_without_counters_starts_no_thread() -> None:
    before = threading.active_count()
    with Meter() as meter:
        assert threading.active_count() == before
    assert meter.kwh() is None


def test_the_energy_of_a_stage_is_told_in_both_reports() -> None:
    found = [event for event in finished() if not isinstance(event, events.StageFinished)]
    stages = [events.StageFinished("search", 60.0, 900, 0.25), events.StageFinished("verdict", 2.0, 90, 0.0000123)]
    journal = records([*found, *stages, events.StageFinished("export", 1.0, 0)])
    report, page = write_report(journal), write_page(journal)
    assert (
        "\n- search: 60 s, 900 tokens, 0.250 kWh\n- verdict: 2 s, 90 tokens, 0.0123 Wh\n- export: 1 s, 0 tokens"
        in report
    )
    assert "0.250 kWh" in page
    assert "0.0123 Wh" in page
    assert "Energy: as the device told it." in page


def test_a_journal_from_before_energy_was_told_is_read() -> None:
    journal: list[dict[str, Any]] = records(finished())
    for event in journal:
        event.pop("kwh", None)
    assert not re.search(r"\d k?Wh", write_report(journal))
    assert "Energy: not measured" in write_page(journal)


@pytest.mark.model
def test_every_stage_of_a_run_tells_the_energy_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path / "powercap", "0", "package-0", 5)
    monkeypatch.setattr(
        sys.modules[run.__module__], "open_meter", lambda *device: open_meter(*device, tmp_path / "powercap")
    )
    lines = ["text,label", *(f"{text} {n} times,{label}" for n in range(9) for text, label in TOPICS)]
    (tmp_path / "topics.csv").write_text("\n".join(lines))
    done = run(
        {
            "name": "topics", "data": {"file": str(tmp_path / "topics.csv"), "label": "label"},
            "prompt": {"template": "{{ text }}\nTopic: {{ label }}", "label_words": {"sports": "sports", "money": "money"}},
            "model": {"name": "builtin", "device": "cpu"}, "study": {"trials": 2}, "doctor": False, "explain": False,
            "finetune": {"method": "none"}, "results": str(tmp_path),
        }
    )  # fmt: skip
    stages = [event for event in read_journal(done.folder / "events.jsonl") if event["event"] == "StageFinished"]
    assert len(stages) >= 5
    assert [event["kwh"] for event in stages] == [0.0] * len(stages)
