"""Errors that teach: what was given, why it cannot work, what to write instead."""

import difflib
from collections.abc import Iterable

OK, FAILED, BAD_INPUT, DIVERGED, RESUMABLE = 0, 1, 2, 3, 75
"""Exit codes of commands; `RESUMABLE` (EX_TEMPFAIL of sysexits.h): stopped by its surroundings, and the same command goes on."""


class UserError(ValueError):
    """A mistake in what the user gave; the command line prints it on one screen and exits with `BAD_INPUT`."""


def nearest(name: object, choices: Iterable[str]) -> str:
    """Return a clause naming the closest valid choice, or all of them where none is close.

    >>> nearest("lisp_margn", ["bp", "lisp_margin"])
    "did you mean 'lisp_margin'? valid: bp, lisp_margin"
    """
    valid = sorted({str(choice) for choice in choices})
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    listing = f"valid: {', '.join(valid)}" if valid else "there are no choices"
    return f"did you mean '{close[0]}'? {listing}" if close else listing
