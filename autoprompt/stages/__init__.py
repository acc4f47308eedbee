"""A run around its search, stage by stage: doctor, plan; confirm, verdict, fine-tuning, export, explanation.

Each stage's outcome is stored when it is reached; a resumed run takes it from there.
"""

from autoprompt.stages.examining import diagnosed, examined
from autoprompt.stages.explaining import explained
from autoprompt.stages.exporting import exported
from autoprompt.stages.job import Job
from autoprompt.stages.judging import confirmed, judged, require_baseline
from autoprompt.stages.material import read_material
from autoprompt.stages.planning import Shelf, plan_of, planned
from autoprompt.stages.searching import opened_search
from autoprompt.stages.tuning import finetune_options, tuned

__all__ = [
    "Job",
    "Shelf",
    "confirmed",
    "diagnosed",
    "examined",
    "explained",
    "exported",
    "finetune_options",
    "judged",
    "opened_search",
    "plan_of",
    "planned",
    "read_material",
    "require_baseline",
    "tuned",
]
