r"""The final answer that a reply marks: in `<answer>` tags, or in `\boxed{}`."""

from __future__ import annotations

import re

_BRACE = re.compile(r"\\boxed\{|(?<!\\)[{}]")


def tagged_answers(text: str) -> list[str]:
    """Contents of all closed `<answer>…</answer>` pairs, in order."""
    contents = []
    end = 0
    while (start := text.find("<answer>", end)) >= 0 and (close := text.find("</answer>", start)) >= 0:
        contents.append(text[start + len("<answer>") : close])
        end = close + len("</answer>")
    return contents


def last_boxed(text: str) -> str | None:
    """Content of the last brace-matched `\\boxed{…}`, or None; linear in the text."""
    opened: list[int | None] = []
    best: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            opened.append(brace.end() if len(brace[0]) > 1 else None)
        elif opened and (start := opened.pop()) is not None and (best is None or start > best[0]):
            best = (start, brace.start())
    return text[slice(*best)] if best else None


def final_answer(answer: str) -> str | None:
    """The final answer stated after the reasoning: the last `<answer>`, else the last `\\boxed{}`, else None."""
    contents = tagged_answers(answer)
    if contents:
        return contents[-1].strip()
    boxed = last_boxed(answer)
    return boxed.strip() if boxed is not None else None
