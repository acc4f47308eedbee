"""engine/batches.py, linear.py, attention.py: what a pass holds, and how it multiplies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from autoprompt.engine import Engine, Request, attention, linear, reads_trees
from autoprompt.engine.batches import Budget
from autoprompt.engine.linear import blocked_weights, rounded
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel, load_model

CPU = torch.device("cpu")


def grid(seed: int = 0, texts: int = 6) -> list[Request]:
    """Two beginnings, items of different lengths, choices of several tokens."""
    drawn = np.random.default_rng(seed)

    def some(count: int) -> tuple[int, ...]:
        return tuple(map(int, drawn.integers(5, 90, count)))

    choices = ((7,), (8, 9), (8, 10, 11))
    return [Request((0, *begin, *some(1 + n)), choices) for begin in (some(12), some(15)) for n in range(texts)]


def worst(found: list[NDArray[np.float64]], expected: list[NDArray[np.float64]]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def model(llama_folder: Path) -> LanguageModel:
    return load_model(str(llama_folder), device="cpu")


# -- batches ---------------------------------------------------------------------------------


def batches(
    budget: Budget, sizes: list[int], packed: bool, fails: Callable[[list[int]], bool] = lambda batch: False
) -> list[list[int]]:
    """The sizes of the members of each pass that went well."""
    passed: list[list[int]] = []

    def forward(batch: list[int]) -> None:
        if fails(batch):
            raise torch.OutOfMemoryError("out of memory")
        passed.append(batch)

    budget.run(sizes, lambda size: (1, size), forward, packed)
    return passed


def test_a_padded_batch_counts_its_longest_row_and_a_packed_one_its_tokens() -> None:
    sizes = [1, 1, 1, 7, 3]
    assert batches(Budget(10, 0, CPU), sizes, packed=False) == [[1, 1, 1], [7], [3]]
    assert batches(Budget(10, 0, CPU), sizes, packed=True) == [[1, 1, 1, 7], [3]]


def test_a_member_beyond_the_budget_goes_alone() -> None:
    assert batches(Budget(10, 0, CPU), [4, 50, 4, 4], packed=True) == [[4], [50], [4, 4]]


def test_a_budget_that_was_halved_grows_back() -> None:
    budget, failures = Budget(64, 0, CPU), [True]
    passed = batches(budget, [8] * 400, True, lambda batch: bool(failures and failures.pop()))
    assert max(map(len, passed[:5])) == 4
    assert max(map(len, passed)) == 8
    assert budget.tokens == 64
    assert sum(map(len, passed)) == 400


def test_a_budget_never_grows_beyond_what_it_began_with() -> None:
    budget = Budget(16, 0, CPU)
    assert max(map(len, batches(budget, [8] * 300, True))) == 2
    assert budget.tokens == 16


def test_a_member_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"^One request of 8 tokens does not fit into the memory of cpu\. Use shorter"):
        batches(Budget(64, 0, CPU), [8] * 9, True, lambda batch: True)


def test_the_stated_budget_holds_the_kept_keys_and_values_and_a_pass(model: LanguageModel) -> None:
    engine = Engine(model, batch_tokens=100)
    assert engine.budget_bytes > engine.budget.kept_bytes + 100 * 32 * 4
    assert Engine(model, batch_tokens=200).budget_bytes > engine.budget_bytes


# -- blocked weights -------------------------------------------------------------------------


@torch.no_grad()
def test_blocked_weights_multiply_as_the_layers_do_and_leave_them_as_they_were(model: LanguageModel) -> None:
    layers = [m for m in model.network.modules() if isinstance(m, torch.nn.Linear)]
    inputs = [torch.randn(1, 70, layer.in_features) for layer in layers]
    expected = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
    with blocked_weights(model.network):
        assert all("forward" in layer.__dict__ for layer in layers)
        for layer, x, y in zip(layers, inputs, expected, strict=True):
            assert torch.allclose(layer(x), y, atol=1e-5)
    assert not any("forward" in layer.__dict__ for layer in layers)


@torch.no_grad()
def test_a_weight_that_was_changed_is_blocked_anew(model: LanguageModel) -> None:
    layer = next(m for m in model.network.modules() if isinstance(m, torch.nn.Linear))
    inputs = torch.randn(3, layer.in_features)
    with blocked_weights(model.network):
        before = layer(inputs)
    layer.weight.mul_(2)
    with blocked_weights(model.network):
        assert torch.allclose(layer(inputs), 2 * before, atol=1e-5)


def test_weights_are_not_blocked_where_a_gradient_is_on(model: LanguageModel) -> None:
    with blocked_weights(model.network):
        assert not any("forward" in module.__dict__ for module in model.network.modules())


@torch.no_grad()
def test_weights_are_not_blocked_beyond_the_limit(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_LIMIT", 1000)
    with blocked_weights(model.network):
        assert not any("forward" in module.__dict__ for module in model.network.modules())


@torch.no_grad()
def test_row_counts_are_rounded_up_only_while_weights_are_blocked(model: LanguageModel) -> None:
    assert (rounded(65), rounded(1)) == (65, 1)
    with blocked_weights(model.network):
        assert (rounded(65), rounded(128), rounded(64), rounded(1)) == (128, 128, 64, 1)


def test_a_copy_of_a_network_that_was_read_has_its_own_layers(model: LanguageModel) -> None:
    requests = grid()
    Engine(model).score(requests)
    twin = model.with_network(copy.deepcopy(model.network))
    with torch.no_grad():
        for weight in twin.network.parameters():
            weight.mul_(1.1)
    expected = Engine(twin, share=False).score(requests)
    assert worst(Engine(twin).score(requests), expected) < 1e-4
    assert worst(Engine(model).score(requests), expected) > 1e-2


# -- attention -------------------------------------------------------------------------------


def test_attention_by_hand_is_that_of_the_kernel(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    # what a GPU, or a model with soft caps, goes through
    requests = grid()
    expected = Engine(model, share=False).score(requests)
    calls = []
    by_hand = attention._by_hand
    monkeypatch.setattr(attention, "_with_norm", lambda *given: calls.append(1) or by_hand(*given))
    assert worst(Engine(model).score(requests), expected) < 1e-4
    assert calls


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_read_packed_and_stays_near_float32(dtype: str, llama_folder: Path) -> None:
    half = load_model(str(llama_folder), device="cpu", dtype=dtype)
    full = load_model(str(llama_folder), device="cpu")
    requests = grid()
    engine = Engine(half)
    assert worst(engine.score(requests), Engine(full).score(requests)) < (0.3 if dtype == "bfloat16" else 0.05)
    assert reads_trees(half, requests)
