"""Programs that a language model wrote, run behind walls and judged by tests."""

from autoprompt.execution.containment import require_containment
from autoprompt.execution.program import Limits, Program, Ran
from autoprompt.execution.programs import run_programs

__all__ = ["Limits", "Program", "Ran", "require_containment", "run_programs"]
