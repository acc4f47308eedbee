"""A first space file for a data file: its columns looked at, what is meant by them guessed or asked, and written."""

from autoprompt.init.begin import Told, begin

__all__ = ["Told", "begin"]
