"""What a check is: a function of a subject that yields findings, or says why it does not look.

Every file of checks, probes and detectors stands on this one; `examination` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cookbook.doctor.findings import Finding

Check = Callable[[Any], Iterable[Finding]]


class Skip(Exception):
    """Raised by a check that does not apply here; the message says why, for `not_checked`.

    "does not apply" is not repeated to the reader: it is a check for another kind of model.
    """


def attempt(check: Check, subject: Any) -> tuple[list[Finding], str]:
    """What a check found, and why it could not look; a check never raises.

    >>> def odd(subject):
    ...     raise KeyError("logits")
    >>> attempt(odd, None)
    ([], "failed with KeyError: 'logits'")
    """
    try:
        return list(check(subject)), ""
    except Skip as reason:
        return [], str(reason) or "does not apply"
    except Exception as error:  # odd models are the reader's right: say it, go on
        return [], f"failed with {type(error).__name__}: {' '.join(str(error).split())[:120]}"
