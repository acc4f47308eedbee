"""New candidates that no list in the space holds; one file a way to make them."""

from autoprompt.propose.base import Desk, Known, Proposal, Proposals, Proposer
from autoprompt.propose.demonstrations import Demonstrations
from autoprompt.propose.edits import Edits
from autoprompt.propose.gradients import TokenGradients
from autoprompt.propose.infill import Infill
from autoprompt.propose.projection import SoftToText
from autoprompt.propose.rewrite import Rewrite
from autoprompt.propose.words import LabelWords

__all__ = ["PROPOSERS", "Desk", "Known", "Proposal", "Proposals", "Proposer"]

PROPOSERS: tuple[type[Proposer], ...] = (
    Edits,
    Demonstrations,
    LabelWords,
    TokenGradients,
    SoftToText,
    Infill,
    Rewrite,
)
