"""Backends sample completions from a model. One file per kind.

A kind has a `Config` and `build(config, model, log) -> Backend`; a backend is opened once, asked concurrently, closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pydantic import ConfigDict

from distill import plugins
from distill.models.model import Model
from distill.models.request import Completion, Request
from distill.types import Record


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


class AutoSettings(Record):
    """Settings under `kind: auto`: any, which the kind that is chosen where the model is sampled has to take."""

    model_config = ConfigDict(extra="allow")


class ChosenBackend(plugins.Chosen):
    """The backend of a recipe: its kind, which may be `auto`, and its settings."""

    family = "backends"
    contract = "distill.backends.Backend"
    default = "auto"

    @classmethod
    def _configured(cls, kind: str, settings: Mapping[str, object]) -> Record:
        if kind == cls.default:
            return AutoSettings.model_validate(settings)
        return super()._configured(kind, settings)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Addresses of running servers that the settings name."""
        endpoints = self.setting("endpoints")
        return tuple(map(str, endpoints)) if isinstance(endpoints, list | tuple) else ()

    @property
    def is_served(self) -> bool:
        """Whether the model runs somewhere else than in the process tree that samples it."""
        return self.kind == "chat" or bool(self.endpoints or self.setting("endpoints_file"))

    def as_kind(self, kind: str) -> ChosenBackend:
        """The same settings for another kind, such as the one that `auto` comes to.

        Raises:
            InputError: the kind does not exist, or does not have one of the settings.
        """
        settings = self.plain if isinstance(self.plain, Mapping) else {}
        return ChosenBackend.of({**settings, "kind": kind}, where="backend")

    def build(self, model: Model, log: Path) -> Backend:
        """The backend that these settings make.

        Raises:
            InputError: it cannot be used with them here.
        """
        built: Backend = plugins.load(self.family, self.kind).build(self.config, model, log)
        return built
