"""engine/other.py: another package's engine behind the same door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autoprompt.engine import Engine, Request, load_engine
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel, load_model

REQUESTS = [Request((0, 5, 6, 7 + n), ((8,), (9, 10), (9, 11))) for n in range(6)]


class Whole:
    """An engine of another make: one forward a choice, in double precision."""

    def __init__(self, model: LanguageModel) -> None:
        self.network = model.network
        self.asked = 0

    @torch.inference_mode()
    def score(self, requests: Sequence[Request]) -> list[list[float]]:
        self.asked += len(requests)
        return [[self._one(request.context, choice) for choice in request.choices] for request in requests]

    def _one(self, context: tuple[int, ...], choice: tuple[int, ...]) -> float:
        logs = self.network(torch.tensor([context + choice])).logits[0].double().log_softmax(-1)
        return sum(float(logs[len(context) - 1 + j, token]) for j, token in enumerate(choice))


@pytest.fixture(scope="module")
def model(llama_folder: Path) -> LanguageModel:
    return load_model(str(llama_folder), device="cpu")


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Entry points as installed packages would have them."""

    def publish(**made: Any) -> None:
        class Point:
            def __init__(self, name: str) -> None:
                self.name = name

            def load(self) -> Any:
                return made[self.name]

        points = [Point(name) for name in made]
        monkeypatch.setattr(
            "autoprompt.engine.other.entry_points", lambda group: points if group == "autoprompt.engines" else []
        )

    return publish


def test_an_engine_of_another_make_scores_in_place_of_ours(model: LanguageModel, publish: Callable[..., None]) -> None:
    publish(whole=Whole)
    other = load_engine("whole", model)
    engine = Engine(model, other=other)
    found, own = engine.score(REQUESTS), Engine(model).score(REQUESTS)
    assert isinstance(other.engine, Whole)
    assert other.engine.asked == len(REQUESTS)
    assert max(float(np.abs(a - b).max()) for a, b in zip(found, own, strict=True)) < 1e-4
    engine.score([*REQUESTS, Request((0, 3), ((4,),))])
    assert other.compared


def test_an_engine_that_differs_from_the_plain_path_is_refused(
    model: LanguageModel, publish: Callable[..., None]
) -> None:
    class Off(Whole):
        def score(self, requests: Sequence[Request]) -> list[list[float]]:
            return [[value + 0.01 for value in row] for row in super().score(requests)]

    publish(off=Off)
    wording = (
        r"^The engine 'off' differs from the plain path by 0\.01 in a log-probability; allowed are 0\.001 in float32"
    )
    with pytest.raises(ModelError, match=wording):
        Engine(model, other=load_engine("off", model)).score(REQUESTS)


@pytest.mark.parametrize("answer", [[], [[1.0]], [[1.0, 2.0, 3.0]] * 5 + [[1.0]]])
def test_answers_of_another_shape_are_refused(
    answer: list[list[float]], model: LanguageModel, publish: Callable[..., None]
) -> None:
    class Short(Whole):
        def score(self, requests: Sequence[Request]) -> list[list[float]]:
            return answer

    publish(short=Short)
    with pytest.raises(
        ModelError, match=r"^The engine 'short' answered 6 requests with scores of another shape; it must"
    ):
        Engine(model, other=load_engine("short", model)).score(REQUESTS)


def test_nan_from_another_engine_is_refused(model: LanguageModel, publish: Callable[..., None]) -> None:
    class Lost(Whole):
        def score(self, requests: Sequence[Request]) -> list[list[float]]:
            return [[float("nan")] * len(request.choices) for request in requests]

    publish(lost=Lost)
    with pytest.raises(ModelError, match=r"^The engine 'lost' differs from the plain path by nan"):
        Engine(model, other=load_engine("lost", model)).score(REQUESTS)


def test_an_engine_that_fails_says_why(model: LanguageModel, publish: Callable[..., None]) -> None:
    class Broken(Whole):
        def score(self, requests: Sequence[Request]) -> list[list[float]]:
            raise KeyError("kernel")

    def unwilling(model: LanguageModel) -> Whole:
        raise OSError("no GPU")

    publish(broken=Broken, unwilling=unwilling)
    with pytest.raises(ModelError, match=r"^The engine 'broken' failed \(KeyError: 'kernel'\)\.$"):
        Engine(model, other=load_engine("broken", model)).score(REQUESTS)
    with pytest.raises(ModelError, match=r"^The engine 'unwilling' cannot run '.*' \(OSError: no GPU\)\.$"):
        load_engine("unwilling", model)


def test_an_engine_that_is_not_installed_is_refused(model: LanguageModel, publish: Callable[..., None]) -> None:
    publish(whole=Whole)
    with pytest.raises(
        ModelError, match=r"^There is no engine 'hole'; installed are own, whole\. Did you mean 'whole'\?"
    ):
        load_engine("hole", model)


def test_an_installed_package_is_found_by_its_entry_point(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zeros_engine.py").write_text(
        "class Zeros:\n"
        "    def __init__(self, model):\n        self.model = model\n"
        "    def score(self, requests):\n        return [[0.0] * len(r.choices) for r in requests]\n"
    )
    about = tmp_path / "zeros_engine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: zeros-engine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[autoprompt.engines]\nzeros = zeros_engine:Zeros\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = load_engine("zeros", model)
    assert [row.tolist() for row in found.score(REQUESTS[:2])] == [[0.0] * 3] * 2
    with pytest.raises(ModelError, match=r"^The engine 'zeros' differs from the plain path by"):
        Engine(model, other=load_engine("zeros", model)).score(REQUESTS)
