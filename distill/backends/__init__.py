"""Backends sample completions from a model. One file per kind.

A kind has a `Config` and `build(config, model, log) -> Backend`; `log` is a folder for what an engine prints. A backend
is opened once, asked concurrently, closed. `Backend` is all there is to read for writing one's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, JsonValue

from distill import plugins
from distill.models.model import Model
from distill.models.request import BackendStatus, Completion, Journal, Request
from distill.types import Record


class Backend(ABC):
    """What samples from one model; a kind derives from it and says what differs from the defaults."""

    concurrency: int = 64
    """Most requests that are ever in flight."""
    engine: str = "a backend of one's own"
    """Name and version as traces record it, final after `open`."""
    takes_ids: bool = True
    """Whether the engine samples what follows `Request.ids`; False where it renders `Request.messages` by itself, so
    that nothing can be prefilled and no cut trace continued."""
    is_remote: bool = False
    """Whether others decide what the engine serves, so that a run has to look before it samples."""
    timeout: float | None = None
    """Seconds after which a completion counts as lost; None: it is waited for."""
    journal: Journal | None = None
    """Set by whoever wants each raw reply before it is read; an engine in this process has none."""
    steering: Mapping[str, JsonValue] = {}
    """What the backend adds to every request that steers the model, such as a reasoning effort. It counts in the
    traces' identity; addresses, timeouts, prices and token budgets have no place in it."""

    @property
    def limit(self) -> int:
        """Requests worth having in flight now, at most `concurrency`."""
        return self.concurrency

    def status(self) -> BackendStatus:
        """What a live view shows of the engine; nothing by default."""
        return {}

    @abstractmethod
    async def open(self) -> None:
        """Start or reach the engine and check that it serves this model with enough context.

        Raises:
            BackendError: it cannot be started or reached (exit 1).
            InputError: it serves another model, or too short a context (exit 2).
        """

    @abstractmethod
    async def complete(self, request: Request) -> Completion:
        """Sample one completion; cancelling the task aborts it.

        Raises:
            Refused: this request can never work.
            BackendError: the engine is gone, after retries.
        """

    @abstractmethod
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
            InputError: it cannot be used with them here, or a user's own file gives something else.
        """
        built = self._build(model, log)
        if not isinstance(built, Backend):
            raise self._misbuilt(built)
        return built
