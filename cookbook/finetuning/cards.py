"""What a model's card says of its licence: the front matter of README.md, and nothing inferred.

A licence on a card binds; no card does not mean free to use. Used by `selection`, chapter 06.
"""

from __future__ import annotations

from pathlib import Path

from cookbook.models.initialization import resolve

# The few that say "ask before you sell"; everything else is shown as it stands on the card.
RESTRICTED = ("cc-by-nc", "openrail", "llama", "gemma", "other", "unknown")


def licence(model: str) -> str:
    """The licence of a model folder or hub id, as its card names it; empty where none is named.

    >>> licence("docbert")
    'apache-2.0'
    """
    from huggingface_hub import metadata_load

    card = _card(model)
    try:
        named = (metadata_load(card) or {}).get("license", "") if card else ""
    except Exception:  # prose of strangers: whatever is wrong with a card, it names no licence
        named = ""
    return ", ".join(map(str, named)) if isinstance(named, list) else str(named or "")


def in_words(named: str) -> str:
    """A sentence about a licence that `licence` found.

    >>> in_words("")
    'no licence found on its card: ask before you use it'
    """
    if not named:
        return "no licence found on its card: ask before you use it"
    limited = any(mark in named.lower() for mark in RESTRICTED)
    return f"licence {named}" + (": it sets conditions, read them" if limited else "")


def _card(model: str) -> Path | None:
    folder = Path(resolve(model)).expanduser()
    if folder.is_dir():
        return folder / "README.md" if (folder / "README.md").is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(model, "README.md"))
    except (OSError, HfHubHTTPError, HFValidationError):
        return None
