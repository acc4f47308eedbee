"""How well a turn goes on with a talk: the metric of dialogue.toml."""

import re

from autoprompt.metrics import metric

LONGEST = 25  # words of a turn at a desk
IDLE = set("a an and are at for i in is it of on our put the to we will with you your".split())


@metric
def reply(references, predictions):
    """Of each turn the share of the given turn's words, from 0 to 1; less where it is too long."""
    judged = [judge(turns, answer) for turns, answer in zip(references, predictions)]
    return {"value": [value for value, _ in judged], "feedback": [text for _, text in judged]}


def judge(turns, answer):
    """The value of an answer by the right turn that it is nearest to, and why it is not more."""
    said = re.findall(r"\w+", answer.lower())
    if not said:
        return 0.0, "The clerk says nothing."
    value, missing = max((meets(turn, said) for turn in turns), key=lambda found: found[0])
    if len(said) > LONGEST:
        return value * LONGEST / len(said), f"{len(said)} words are too many for a turn; {LONGEST} are enough."
    return value, "Good." if not missing else f"Nothing is said of: {', '.join(sorted(missing))}."


def meets(turn, said):
    """F1 of the words that carry a turn, and those of them that are missing."""
    wanted, given = set(re.findall(r"\w+", turn.lower())) - IDLE, set(said) - IDLE
    if not wanted or not given:
        return 0.0, wanted
    return 2 * len(wanted & given) / (len(wanted) + len(given)), wanted - given
