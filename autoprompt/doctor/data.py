"""Everything about the data that can be looked at without a model."""

from __future__ import annotations

from collections.abc import Mapping

from autoprompt.data import DataOptions, Splits
from autoprompt.doctor.balance import examine_balance, examine_size
from autoprompt.doctor.duplicates import examine_duplicates
from autoprompt.doctor.encoding import examine_encoding
from autoprompt.doctor.leaks import examine_giveaways, examine_leaks
from autoprompt.doctor.resemblance import examine_resemblance
from autoprompt.events import Finding

__all__ = ["examine_data"]


def examine_data(
    splits: Splits,
    options: DataOptions | None = None,
    words: Mapping[str, str] | None = None,
    discordant: float = 0.2,
    classes: bool = True,
) -> list[Finding]:
    """All findings on the data, in the order in which they are told.

    options: where the data was read from, to look at the rows that reading left out. words: the label words of the
    user's prompt. discordant: the share of examples on which just one of two prompts is right. classes: whether
    targets are classes, so that what is looked for in classes can be found. No test text is in any finding. Raises
    DataError where a file is gone.
    """
    return [
        *examine_duplicates(splits, options),
        *examine_resemblance(splits),
        *(examine_leaks(splits, words) if classes else ()),
        *(examine_giveaways(splits) if classes else ()),
        *(examine_balance(splits) if classes else ()),
        *examine_size(splits, discordant),
        *examine_encoding(splits),
    ]
