"""Prints plain lines: no markup, no colours, no line breaks of our own."""

from __future__ import annotations


def say(*lines: str) -> None:
    """Print lines to stdout as they are."""
    from rich.console import Console

    Console().print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
