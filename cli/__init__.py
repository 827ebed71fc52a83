"""The command line: thin commands over the stages. Starts without torch, vLLM or even the recipes."""

from .app import main

__all__ = ["main"]
