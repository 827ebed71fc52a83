"""Backends sample completions from a model. One file per kind.

A kind has a `Config` and `build(config, model, log) -> Backend`; a backend is opened once, asked concurrently, closed.
"""

from __future__ import annotations

from typing import Protocol

from distill.models.request import Completion, Request


class Backend(Protocol):
    concurrency: int
    """Requests worth having in flight."""
    engine: str
    """Name and version, known after `open`."""

    async def open(self) -> None:
        """Start or reach the engine and check that it serves this model with enough context.

        Raises:
            BackendError: it cannot be started or reached (exit 1).
            InputError: it serves another model, or too short a context (exit 2).
        """
        ...

    async def complete(self, request: Request) -> Completion:
        """Sample one completion; cancelling the task aborts it.

        Raises:
            Refused: this request can never work.
            BackendError: the engine is gone, after retries.
        """
        ...

    async def close(self) -> None:
        """Free the engine; a server that was started here is stopped."""
        ...
