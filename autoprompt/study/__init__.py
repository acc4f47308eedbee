"""All of Optuna's study: ask, score, tell, stop, resume, and the choice of the winner."""

from autoprompt.study.candidates import Candidate, confirm, finalists, pareto_front, ranked
from autoprompt.study.options import BRANCHES, StudyOptions
from autoprompt.study.search import search
from autoprompt.study.sharing import Posting, Shared, joined, publish, published
from autoprompt.study.storages import open_storage, serve_proxy
from autoprompt.study.study import Study

__all__ = [
    "BRANCHES",
    "Candidate",
    "Posting",
    "Shared",
    "Study",
    "StudyOptions",
    "confirm",
    "finalists",
    "joined",
    "open_storage",
    "pareto_front",
    "publish",
    "published",
    "ranked",
    "search",
    "serve_proxy",
]
