"""One row as it will be learnt, in colours: the prompt dim, what is learnt green, EOS marked, the middle left out."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from distill.training.sft.audit import Audit

from .traces import plain

_HEAD = 600
_TAIL = 300
_EOS = "black on green"


def show(audit: Audit, console: Console) -> None:
    """Print the audit's words, its warnings and its example; model text drives neither markup nor the terminal."""
    row = audit.example
    console.rule(f"row {row.id}: {row.tokens:,} tokens, {row.loss_tokens:,} of them learnt", align="left")
    text = Text()
    _add(text, row.prompt, "dim")
    _add(text, row.learnt, "green")
    text.append(plain(row.eos), _EOS)
    console.print(text, soft_wrap=True)
    console.rule(align="left")
    if console.no_color or not console.is_terminal:
        # without colours the two parts would look alike
        start = shortened(row.learnt)[:40]
        console.print(Text(f"learnt from {plain(start)!r} on, {row.eos} included"), soft_wrap=True)
    console.print(Text(f"audit: {audit.summary}"), soft_wrap=True)
    for warning in audit.warnings:
        console.print(Text(f"warning: {plain(warning)}", style="yellow"), soft_wrap=True)


def shortened(text: str) -> str:
    """A text with its middle left out, where it is long."""
    omitted = len(text) - _HEAD - _TAIL
    if omitted <= 0:
        return text
    return f"{text[:_HEAD]} [… {omitted:,} characters …] {text[-_TAIL:]}"


def _add(text: Text, part: str, style: str) -> None:
    text.append(plain(shortened(part)), style)
