"""One training, from the last whole checkpoint to the best weights: what follows each epoch.

Imported where training begins only, as `trainer`.
"""

from __future__ import annotations

import math
import tempfile
from typing import Any

from transformers import TrainerCallback

from autoprompt.events import EpochFinished
from autoprompt.finetune.record import Record
from autoprompt.finetune.trainer import EpochTrainer, Run

__all__ = ["train"]


class _Keeper(TrainerCallback):
    """After each epoch: dev is scored, the best weights are kept, where training stands is written, and told."""

    def __init__(self, trainer: EpochTrainer, record: Record) -> None:
        self.trainer, self.record = trainer, record
        self.halted = False

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if self.trainer.shared(self.trainer.run.halt()):
            self.halted = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        trainer, record = self.trainer, self.record
        course = trainer.run.course
        whole = len(trainer.step_losses) == course.steps  # or training was halted in the middle
        if not whole and record.epoch and not record.last:
            control.should_training_stop = True  # there is no time to score what may be better
            return
        loss = math.fsum(trainer.step_losses) / min(len(course.allowed), len(trainer.step_losses) * course.batch)
        trainer.step_losses.clear()
        trainer.optimizer.eval()
        quality = trainer.examined() if record.asks or self.halted else None
        if record.add(loss, quality):
            record.kept = trainer.run.pupil.snapshot()
        if trainer.options.schedule == "reduce_lr_on_plateau" and quality is not None:
            trainer.lr_scheduler.step(-quality[1])
        if trainer.checkpoints is not None and whole:
            if trainer.is_world_process_zero():
                trainer.checkpoints.write(trainer.checkpoint(record))
            trainer.accelerator.wait_for_everyone()
        if trainer.is_world_process_zero():  # told when it can no longer be lost
            trainer.run.listener(EpochFinished(record.epoch, record.epochs, loss, quality and quality[0]))
        control.should_training_stop = record.over or self.halted


def train(run: Run) -> Record:
    """Train, from the last whole checkpoint where there is one; the pupil ends with the best weights.

    Raises ModelError when the loss is not a number, or one example does not fit into memory.
    """
    options = run.options
    record = Record(options.epochs, options.patience, run.pupil.snapshot(), last=options.keep == "last")
    with tempfile.TemporaryDirectory() as nowhere:  # the Trainer wants a folder, and writes nothing into it
        trainer = EpochTrainer(run, nowhere)
        place = trainer.resumed(record)
        if place is None:
            record.qualities.append(trainer.examined())
        trainer.add_callback(_Keeper(trainer, record))
        if not record.over:
            trainer.train(resume_from_checkpoint=place)
    run.pupil.restore(record.kept)
    return record
