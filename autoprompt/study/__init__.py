"""All of Optuna's study: ask, score, tell, stop, resume, and the choice of the winner."""

from autoprompt.study.candidates import Candidate, confirm, finalists, pareto_front, ranked
from autoprompt.study.options import BRANCHES, StudyOptions
from autoprompt.study.search import search
from autoprompt.study.study import Study

__all__ = ["BRANCHES", "Candidate", "Study", "StudyOptions", "confirm", "finalists", "pareto_front", "ranked", "search"]
