"""What transformers' Trainer is told; its optimizer's state as tensors and plain values, and its schedule."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments
from transformers.optimization import get_scheduler

from autoprompt.errors import ModelError
from autoprompt.finetune.options import FinetuneOptions
from autoprompt.finetune.weights import reads_bfloat16
from autoprompt.models import LanguageModel
from autoprompt.soft import seed_of

__all__ = ["optimizer_state", "restore_optimizer", "schedule_of", "trainer_arguments"]


def trainer_arguments(model: LanguageModel, options: FinetuneOptions, seed: int, folder: str) -> TrainingArguments:
    """Raises ModelError when the device cannot do what the options ask."""
    try:
        return TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=options.batch_size,
            num_train_epochs=options.epochs,
            learning_rate=options.learning_rate,
            lr_scheduler_type="constant",  # `schedule_of` makes the real one
            optim=options.optimizer,
            weight_decay=options.weight_decay,
            max_grad_norm=options.max_grad_norm,
            bf16=reads_bfloat16(model, options),
            use_cpu=model.device.type == "cpu",
            seed=seed_of(seed, "finetune trainer") % 2**31,
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
            eval_strategy="no",
            logging_nan_inf_filter=False,
            remove_unused_columns=False,
            label_names=[],
            dataloader_pin_memory=False,
            ddp_find_unused_parameters=False,
        )
    except (ValueError, ImportError) as error:
        raise ModelError(f"Fine-tuning cannot begin on {model.device} ({error}).") from None


def schedule_of(optimizer: torch.optim.Optimizer, options: FinetuneOptions, steps: int) -> Any:
    """A schedule of one step more than the training, which begins at its second.

    The first step of a schedule that warms up has the rate 0, and of few steps none is to be wasted.
    """
    extra: dict[str, float] = {}
    if options.schedule.endswith("with_min_lr"):
        extra = {"min_lr_rate": 0.1}
    elif options.schedule == "warmup_stable_decay":
        extra = {"num_decay_steps": max(1, steps // 10)}
    warmup = max(1, round(options.warmup * steps))
    schedule = get_scheduler(options.schedule, optimizer, warmup, steps + 1, extra)
    if options.schedule != "reduce_lr_on_plateau":
        with warnings.catch_warnings():  # torch expects a step of the optimizer first
            warnings.simplefilter("ignore", UserWarning)
            schedule.step()
    return schedule


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors named "<weight>.<what>", copied to the CPU, and everything else as JSON has it."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for number, values in state["state"].items():
        for what, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{number}.{what}"] = value.detach().to("cpu", copy=True)
            else:
                plain.setdefault(str(number), {})[what] = value
    return tensors, {"state": plain, "groups": state["param_groups"]}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    """Put back what `optimizer_state` took, exactly."""
    state: dict[int, dict[str, Any]] = {int(number): dict(values) for number, values in plain["state"].items()}
    for name, tensor in tensors.items():
        number, _, what = name.partition(".")
        state.setdefault(int(number), {})[what] = tensor
    groups = [
        {key: tuple(value) if isinstance(now.get(key), tuple) else value for key, value in group.items()}
        for now, group in zip(optimizer.state_dict()["param_groups"], plain["groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
