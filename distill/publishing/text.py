"""Text of models, datasets and run folders inside Markdown: shown as it is, never as markup."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

_MARKUP = re.compile(r"([\\`*_\[\]|~$])")
_BLOCK_START = re.compile(r"^(?=[-+#=])|(?<=^\d)(?=[.)]\s)|(?<=^\d\d)(?=[.)]\s)")
"""Where a list, a heading or a rule would begin."""
_MAX_CHARACTERS = 300


def plain(value: object, max_characters: int = _MAX_CHARACTERS) -> str:
    """One line of text that renders as itself: no markup, no HTML, no mention, no link, no hidden characters.

    Args:
        max_characters: counted before escaping; what is longer is cut and says so.
    """
    text = visible(value, max_characters).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKUP.sub(r"\\\1", text)
    text = _BLOCK_START.sub(r"\\", text)
    return text.replace("@", "&#64;").replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def code(value: object, max_characters: int = _MAX_CHARACTERS) -> str:
    """A code span; backticks in it become quotes."""
    text = visible(value, max_characters).replace("`", "'").replace("|", "/").replace("$", "＄")
    return f"`{text}`" if text else ""


def visible(value: object, max_characters: int = _MAX_CHARACTERS) -> str:
    """One line without control, format (bidirectional, zero-width), private or unassigned characters."""
    text = " ".join(str(value).split())
    text = "".join(letter for letter in text if unicodedata.category(letter)[0] != "C")
    if len(text) <= max_characters:
        return text
    return text[: max_characters - 1] + "…"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], alignment: Literal["l", "r"] = "r") -> str:
    """A Markdown table whose cells are Markdown already; all columns but the first are aligned to `alignment`."""
    rule = "---:|" if alignment == "r" else "---|"
    lines = [f"| {' | '.join(headings)} |", f"|---|{rule * (len(headings) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
