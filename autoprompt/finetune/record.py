"""What a training run has found so far: a quality and a loss an epoch, and the best weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from autoprompt.finetune.checkpoints import Checkpoint

__all__ = ["Quality", "Record"]

Quality = tuple[float, float]  # what is better is greater: (metric, minus the loss)


@dataclass(eq=False)
class Record:
    """epochs: the most there can be. patience: see `FinetuneOptions`. qualities: on dev, of epoch 0 and
    each one since, None where dev was not scored. losses: the mean training loss of each epoch. best: the
    first epoch of the greatest quality, or with `last` the latest; and kept what was trained by then.
    """

    epochs: int
    patience: int
    kept: Mapping[str, Tensor]
    qualities: list[Quality | None] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: int = 0
    last: bool = False

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return len(self.losses)

    @property
    def over(self) -> bool:
        """Whether training ends here."""
        return self.epoch >= self.epochs or 0 < self.patience <= self.epoch - self.best

    @property
    def asks(self) -> bool:
        """Whether dev is to be scored after the epoch that is just over, which is not added yet."""
        quarter = -(-self.epochs // 4)
        return not self.last or (self.epoch + 1) % quarter == 0 or self.epoch + 1 == self.epochs

    def add(self, loss: float, quality: Quality | None) -> bool:
        """Note an epoch; whether it is the best one so far, whose weights are then to be kept."""
        self.losses.append(loss)
        self.qualities.append(quality)
        best = self.qualities[self.best]
        if self.last or (quality is not None and (best is None or quality > best)):
            self.best = self.epoch
            return True
        return False

    def state(self) -> dict[str, Any]:
        """Everything but the weights, as JSON has it."""
        return {"qualities": [q and list(q) for q in self.qualities], "losses": list(self.losses), "best": self.best}

    def resume(self, found: Checkpoint) -> None:
        """Go on from a checkpoint; what was kept of epoch 0 is what this process began with."""
        self.qualities = [q and (float(q[0]), float(q[1])) for q in found.state["qualities"]]
        self.losses = [float(loss) for loss in found.state["losses"]]
        self.best = int(found.state["best"])
        if self.best > 0:
            self.kept = found.weights if found.best is None else found.best
