"""New candidates that no list in the space holds; one file a way to make them."""

from autoprompt.propose.base import Desk, Known, Proposal, Proposals, Proposer

__all__ = ["Desk", "Known", "Proposal", "Proposals", "Proposer"]
