"""engine/batches.py, linear.py, attention.py: what a pass holds, and how it multiplies."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from autoprompt.engine import Engine, Request, ScoreMemory, attention, linear, reads_trees
from autoprompt.engine.batches import Budget, out_of_memory
from autoprompt.engine.linear import blocked_weights, rounded
from autoprompt.errors import ModelError
from autoprompt.models import LanguageModel, load_model

pytestmark = pytest.mark.model

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


@pytest.mark.fault("out of memory")
def test_a_budget_that_was_halved_grows_back() -> None:
    budget, failures = Budget(64, 0, CPU), [True]
    passed = batches(budget, [8] * 400, True, lambda batch: bool(failures and failures.pop()))
    assert max(map(len, passed[:5])) == 4
    assert max(map(len, passed)) == 8
    assert budget.tokens == 64
    assert sum(map(len, passed)) == 400


def passes_until_grown(budget: Budget, tokens: int) -> int:
    """How many passes it takes until the budget is back at so many tokens."""
    count = 0
    while budget.tokens < tokens:
        budget.went_well()
        count += 1
    return count


def test_a_budget_waits_longer_each_time_that_memory_runs_out_at_the_same_size() -> None:
    budget, waited = Budget(64, 0, CPU), []
    for _ in range(9):
        budget.halve()
        waited.append(passes_until_grown(budget, 64))
    assert waited == [32, 64, 128, 256, 512, 1024, 2048, 2048, 2048]


def test_a_budget_that_failed_at_one_size_grows_to_smaller_ones_as_before() -> None:
    budget = Budget(64, 0, CPU)
    for _ in range(2):
        budget.halve()
        passes_until_grown(budget, 64)
    budget.halve()
    budget.halve()
    assert budget.tokens == 16
    assert passes_until_grown(budget, 32) == 32
    assert passes_until_grown(budget, 64) == 128


def test_only_the_pass_that_failed_is_repeated_in_halves() -> None:
    budget, given = Budget(8, 0, CPU), list[list[int]]()

    def forward(batch: list[int]) -> None:
        given.append(batch)
        if batch == [0, 1, 2, 3, 4, 5, 6, 7]:
            raise torch.OutOfMemoryError("out of memory")

    budget.run(range(20), lambda member: (1, 1), forward, packed=True)
    assert given[0] == [*range(8)]
    assert given[1:3] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [member for batch in given[1:] for member in batch] == [*range(20)]
    assert max(map(len, given[3:])) == 4


def test_what_a_failed_pass_held_is_let_go_before_it_is_repeated() -> None:
    held: list[weakref.ref[object]] = []

    class Activations:
        pass

    def forward(batch: list[int]) -> None:
        activations = Activations()
        held.append(weakref.ref(activations))
        if len(held) > 1:
            assert held[-2]() is None
        if len(batch) > 1:
            raise torch.OutOfMemoryError("out of memory")

    Budget(8, 0, CPU).run(range(8), lambda member: (1, 1), forward, packed=True)
    assert len(held) == 15


def test_a_budget_never_grows_beyond_what_it_began_with() -> None:
    budget = Budget(16, 0, CPU)
    assert max(map(len, batches(budget, [8] * 300, True))) == 2
    assert budget.tokens == 16


def test_a_member_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"^One request of 8 tokens does not fit into the memory of cpu\. Use shorter"):
        batches(Budget(64, 0, CPU), [8] * 9, True, lambda batch: True)


# what a machine says when its memory runs out
OUT = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    "python": MemoryError(),
}


@pytest.mark.parametrize("kind", OUT)
def test_memory_that_ran_out_is_known_on_every_device(kind: str) -> None:
    failures = [OUT[kind]]

    def fails(batch: list[int]) -> bool:
        if failures:
            raise failures.pop()
        return False

    assert batches(Budget(64, 0, CPU), [8] * 8, True, fails) == [[8] * 4, [8] * 4]


def test_a_real_allocation_beyond_all_memory_is_known() -> None:
    with pytest.raises(RuntimeError, match=r"can't allocate memory|not enough memory|out of memory") as caught:
        torch.empty(2**46)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("out of memory"))


@contextmanager
def small_memory(model: LanguageModel, most: int, error: Exception) -> Iterator[list[int]]:
    """A model whose passes of more than so many tokens raise; gives the sizes of those that did."""
    refused: list[int] = []

    def look(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].numel() > most:
            refused.append(given[0].numel())
            raise error

    size = model.network.get_input_embeddings().weight.shape
    tables = [m for m in model.network.modules() if isinstance(m, torch.nn.Embedding) and m.weight.shape == size]
    handles = [table.register_forward_pre_hook(look) for table in tables]
    try:
        yield refused
    finally:
        for handle in handles:
            handle.remove()


def asked(model: LanguageModel, soft: bool = False) -> list[Request]:
    """Requests of one beginning that is worth sharing, texts of different lengths."""
    drawn = np.random.default_rng(0)
    head = tuple(map(int, drawn.integers(5, 60, 20)))
    tails = [tuple(map(int, drawn.integers(5, 60, size))) for size in drawn.integers(2, 16, 24)]
    choices = ((7,), (8, 9), (8, 10, 11))
    width = model.network.get_input_embeddings().weight.shape[1]
    vectors = drawn.normal(size=(2, width)).astype(np.float32) if soft else None
    marks = (-1, -2) if soft else ()
    return [Request((2, *marks, *head, *tail), choices, (3,), vectors) for tail in tails]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "bert", "roberta"])
@pytest.mark.fault("out of memory")
def test_scores_are_the_same_when_memory_runs_out(
    family: str, share: bool, soft: bool, model_folders: dict[str, Path]
) -> None:
    model = load_model(str(model_folders[family]), device="cpu")
    requests = asked(model, soft)
    expected = Engine(model, share=share).score(requests)
    for error in (OUT["cuda"], OUT["cpu"], OUT["python"]):
        with small_memory(model, 150, error) as refused:
            engine = Engine(model, share=share)
            found = engine.score(requests)
        assert refused
        assert engine.batch_tokens < engine.budget.ceiling
        assert worst(found, expected) <= 1e-4


@pytest.mark.fault("out of memory")
def test_embeddings_are_the_same_when_memory_runs_out(encoder_folder: Path) -> None:
    model = load_model(str(encoder_folder), device="cpu")
    requests = asked(model)
    expected = Engine(model).embed(requests), Engine(model).score(requests)
    for error in (OUT["cuda"], OUT["cpu"], OUT["python"]):
        with small_memory(model, 150, error) as refused:
            found = Engine(model).embed(requests), Engine(model).score(requests)
        assert len(refused) > 1
        assert np.abs(found[0] - expected[0]).max() <= 1e-5
        assert worst(found[1], expected[1]) <= 1e-4


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
@pytest.mark.fault("out of memory")
def test_what_is_written_is_the_same_when_memory_runs_out(
    family: str, temperature: float, model_folders: dict[str, Path]
) -> None:
    model = load_model(str(model_folders[family]), device="cpu")
    requests = [r for r in asked(model) for _ in range(3)]
    expected = Engine(model).generate(requests, 6, temperature, 3)
    assert any(expected)
    for error in (OUT["cuda"], OUT["cpu"], OUT["python"]):
        with small_memory(model, 50, error) as refused:
            assert Engine(model).generate(requests, 6, temperature, 3) == expected
        assert refused


def test_packed_passes_that_never_fit_leave_the_plain_ones(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = asked(model)
    expected = Engine(model, share=False).score(requests)
    assert reads_trees(model, requests)

    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("autoprompt.engine.causal.label_scores", full)
    assert worst(Engine(model).score(requests), expected) <= 1e-4


# -- numbers that are none -------------------------------------------------------------------

_BROKEN = 77  # the id of a token for which a model has no numbers


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "bert", "roberta"])
@pytest.mark.fault("NaN or inf on some examples")
def test_nan_of_one_request_is_named_and_spoils_no_other(family: str, model_folders: dict[str, Path]) -> None:
    model = load_model(str(model_folders[family]), device="cpu")
    requests = asked(model)
    first = min(range(24), key=lambda at: len(requests[at].context))  # what pads the others in a packed pass
    broken = sorted({first, 11, 12})
    for at in broken:
        requests[at] = Request((*requests[at].context[:-1], _BROKEN), requests[at].choices, requests[at].tail)
    good = [r for at, r in enumerate(requests) if at not in broken]
    expected = Engine(model).score(good)
    with torch.no_grad():
        table = model.network.get_input_embeddings()
        model.network.set_input_embeddings(
            torch.nn.Embedding.from_pretrained(table.weight.clone(), padding_idx=table.padding_idx)
        )
        model.network.get_input_embeddings().weight[_BROKEN] = torch.nan
        if family == "t5":
            model.network.encoder.embed_tokens = model.network.get_input_embeddings()
    memory = ScoreMemory(None, "nan")
    engine = Engine(model, memory=memory)
    found = engine.attempt(requests)
    assert [at for at, row in enumerate(found) if not np.isfinite(row).all()] == broken
    assert worst([row for at, row in enumerate(found) if at not in broken], expected) <= 1e-4
    assert len(memory) == len(good)
    before = engine.tokens
    with pytest.raises(ModelError, match=rf"float32\"\. Such are the scores of request {broken[0]} of 24 and of 2"):
        engine.score(requests)
    assert engine.tokens - before <= 3 * (2 + 3) * max(len(r.context) + 8 for r in requests)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.fault("NaN or inf on all examples")
def test_a_model_that_returns_nothing_but_nan_is_asked_twice_at_most(share: bool, model: LanguageModel) -> None:
    for weight in model.network.parameters():
        weight.fill_(float("nan"))
    requests = asked(model)
    engine = Engine(model, share=share)
    with pytest.raises(ModelError, match=r"Such are the scores of request 0 of 24 and of 23 others\.$"):
        engine.score(requests)
    once = sum(len(row.context) + len(row.choice) + len(row.tail) for r in requests for row in r.rows())
    assert engine.tokens <= (1 + share) * once


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
