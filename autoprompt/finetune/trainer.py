"""transformers' Trainer with our passes, our order and our checkpoints on its loop.

Imported where training begins only: the Trainer is slow to import.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer

from autoprompt.clock import Halt, never
from autoprompt.engine.batches import out_of_memory
from autoprompt.errors import ModelError
from autoprompt.events import Listener
from autoprompt.finetune.checkpoints import Checkpoint, Checkpoints
from autoprompt.finetune.course import Course
from autoprompt.finetune.objective import Objective, Step
from autoprompt.finetune.options import FinetuneOptions
from autoprompt.finetune.record import Quality, Record
from autoprompt.finetune.settings import optimizer_state, restore_optimizer, schedule_of, trainer_arguments
from autoprompt.finetune.weights import Pupil
from autoprompt.models import LanguageModel
from autoprompt.prompt import Prompt

__all__ = ["EpochTrainer", "Run"]


@dataclass(frozen=True, eq=False)
class Run:
    """One training: what is trained, on what, how, and who is asked and told.

    checkpoints: makes their folder for a number of processes; None writes none. halt: why training should end.
    """

    pupil: Pupil
    objective: Objective
    course: Course
    options: FinetuneOptions
    evaluate: Callable[[LanguageModel, Prompt], Quality]
    listener: Listener
    seed: int
    checkpoints: Callable[[int], Checkpoints] | None = None
    halt: Halt = never


class _Steps(Dataset[Step]):
    """The steps of an epoch."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.begin(0)

    def begin(self, before: int) -> None:
        """Turn to an epoch; before: those that are over."""
        self.before, self.steps = before, self.course.epoch(before + 1)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, at: int) -> Step:
        return Step(tuple(self.steps[at]), self.before * len(self.steps) + at)


class EpochTrainer(Trainer):
    """The loop is transformers'; a step, its optimizer and where it goes on are ours.

    In several processes each reads its share of a step. Gradients are shared among them once a step,
    when every process has its own: memory that runs out in one is that one's matter.
    """

    objective: Objective
    optimizer: Any
    lr_scheduler: Any

    def __init__(self, run: Run, folder: str) -> None:
        self.run, self.options, self.objective = run, run.options, run.objective
        self.steps = _Steps(run.course)
        self.room = run.options.micro_tokens
        self.step_losses: list[float] = []
        self.found: Checkpoint | None = None
        arguments = trainer_arguments(run.pupil.model, run.options, run.seed, folder)
        super().__init__(run.objective, arguments, data_collator=_as_inputs, train_dataset=self.steps)
        self.remove_callback(PrinterCallback)
        self.accelerator.free_memory = _freed  # the loop begins with it: it takes longer than a small training
        self.processes = int(self.accelerator.num_processes)
        if self.processes == 1:  # the model stays where it is
            self.accelerator.device_placement = False
            self.args._n_gpu = min(1, self.args.n_gpu)
        self.checkpoints = None if run.checkpoints is None else run.checkpoints(self.processes)

    # -- what the loop asks for ---------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader[Step]:
        loader: Any = DataLoader(self.steps, batch_size=None, collate_fn=_as_inputs, generator=torch.Generator())
        loader.set_epoch = self.steps.begin
        return loader  # type: ignore[no-any-return]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As transformers makes it, a soft prompt's vectors in a group of their own, without weight decay."""
        if self.optimizer is not None:
            return self.optimizer  # type: ignore[no-any-return]
        try:
            optimizer = super().create_optimizer(model)
        except (ImportError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"The fine-tuning optimizer {self.options.optimizer!r} cannot be used here ({error}). "
                "Install what it needs, or use adamw_torch."
            ) from None
        vectors = self.run.pupil.vectors
        if vectors is not None:
            for group in optimizer.param_groups:
                group["params"] = [weight for weight in group["params"] if weight is not vectors]
            rate = self.options.vector_rate or self.options.learning_rate
            optimizer.add_param_group({"params": [vectors], "lr": rate, "weight_decay": 0.0})
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler, self._created_lr_scheduler = (
            schedule_of(self.optimizer, self.options, num_training_steps),
            True,
        )
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """The gradients of a whole step, left at the weights; its loss is kept in `step_losses`."""
        model.train()
        self.optimizer.train()
        step: Step = inputs["step"]
        count = len(step.readings)
        own = Step(step.readings[self.accelerator.process_index :: self.processes], step.number)
        loss, fits = self._learned(model, own, self.processes / count)  # processes share gradients by their mean
        if self.processes > 1:
            loss, fits = self._over_all(loss, fits)
        if not fits:
            raise ModelError(
                f"One example does not fit into the memory of {self.run.pupil.model.device} with its gradients. Use "
                "gradient_checkpointing = true, a lower rank, shorter prompts, or a smaller model."
            )
        if not math.isfinite(loss):
            raise ModelError("The fine-tuning loss is not a number. Use a smaller [finetune] learning_rate.")
        if self.processes > 1:
            self.accelerator.backward(model(None))  # shares what lies at the weights
        self.step_losses.append(loss)
        return torch.tensor(loss / count, device=self.args.device)

    def _learned(self, model: Any, step: Step, scale: float) -> tuple[float, bool]:
        """The loss of a step, and whether it fitted; as often as memory runs out, all of it again in smaller passes."""

        def backward(loss: Tensor) -> None:
            self.accelerator.backward(loss * scale)

        while True:
            try:
                with self.accelerator.no_sync(model):
                    return self.objective.learn(step, self.room, model, backward), True
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            self.objective.zero_grad(set_to_none=True)
            if self.objective.members <= 1:
                return 0.0, False
            self.room = max(1, min(self.room, self.objective.padded) // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _over_all(self, loss: float, fits: bool) -> tuple[float, bool]:
        """The loss of all processes, and whether it fitted in each."""
        own = torch.tensor([loss, float(not fits)], dtype=torch.float64, device=self.args.device)
        total, misfits = self.accelerator.reduce(own, "sum").tolist()
        return total, misfits == 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Nothing is printed; events are told instead."""

    # -- where it goes on ---------------------------------------------------------------------------

    def checkpoint(self, record: Record) -> Checkpoint:
        """Where training stands at the end of an epoch."""
        tensors, plain = optimizer_state(self.optimizer)
        state = {
            **record.state(),
            "optimizer": plain,
            "schedule": self.lr_scheduler.state_dict(),
            "room": self.room,
        }
        best = record.kept if 0 < record.best < record.epoch else None
        counted = json.dumps(dataclasses.asdict(self.state), indent=2, sort_keys=True) + "\n"
        return Checkpoint(record.epoch, self.run.pupil.snapshot(), best, tensors, state, counted)

    def resumed(self, record: Record) -> str | None:
        """Where the last whole checkpoint lies, the same for all processes; the record goes on from it."""
        if self.checkpoints is None:
            return None
        self.found = self.checkpoints.latest() if self.is_world_process_zero() else None
        epoch = self.shared(0 if self.found is None else self.found.epoch)
        if not epoch:
            return None
        self.found = self.found or self.checkpoints.read(epoch)
        if self.found is None:
            raise ModelError(
                f"Process {self.args.process_index} does not see the checkpoint {self.checkpoints.path(epoch)}. "
                "Give a folder that all processes share."
            )
        record.resume(self.found)
        return str(self.checkpoints.path(epoch))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.found is not None:
            self.run.pupil.restore(self.found.weights)
            self.room = int(self.found.state["room"])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self.found is not None:
            restore_optimizer(self.optimizer, self.found.optimizer, self.found.state["optimizer"])
            self.lr_scheduler.load_state_dict(self.found.state["schedule"])

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """There is none: each pass seeds its own dropout."""

    def shared(self, value: Any) -> Any:
        """What the first process says, in all of them."""
        box = [value]
        if self.processes > 1:
            torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def examined(self) -> Quality:
        """The quality on dev, found by the first process for all."""
        quality: Quality = (0.0, 0.0)
        if self.is_world_process_zero():
            with self.run.pupil.examined() as (model, prompt):
                metric, loss = self.run.evaluate(model, prompt)
            quality = float(metric), float(loss)
        metric, loss = self.shared(quality)
        return metric, loss


def _as_inputs(step: Any) -> dict[str, Any]:
    return {"step": step}


def _freed(*objects: Any) -> list[Any]:
    """Nothing is to be freed when a new trainer begins."""
    return list(objects)
