"""A command of the user's that is run when a run has ended."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

__all__ = ["notify"]

_PATIENCE = 60  # seconds that the command may take


def notify(command: Sequence[str], told: Mapping[str, str]) -> str:
    """Run a command without a shell; what went wrong, or nothing.

    told: what it finds in its environment, as AUTOPROMPT_NAME and so on. Its output is not shown.
    """
    environment = os.environ | {f"AUTOPROMPT_{name.upper()}": value for name, value in told.items()}
    try:
        done = subprocess.run(
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, ValueError) as error:
        return f"The command {command[0]!r} of [budget] notify did not run ({error})."
    except subprocess.TimeoutExpired:
        return f"The command {command[0]!r} of [budget] notify took more than {_PATIENCE} s and was ended."
    if done.returncode:
        return f"The command {command[0]!r} of [budget] notify ended with {done.returncode}."
    return ""
