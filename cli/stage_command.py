"""What all commands that run stages do with their options: work here, or write batch jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill.recipe import StageName


@dataclass(frozen=True)
class StageCommand:
    """A command that runs one stage or all of a recipe, as it was typed."""

    stage: StageName | None
    """The stage; None for all of the recipe's."""
    recipe: str | None
    run: Path | None
    set: list[str] | None
    options: dict[str, object] = field(default_factory=dict)
    """Recipe values that have an option of their own, by dotted name; None is one that was not given."""
    dry_run: bool = False
    here: bool = False
    """This process is the launched one, so the recipe's launchers count no more."""
    forecast: int | None = None
    on: str | None = None
    submit: bool = False
    redo: bool = False
    """Do again what is finished."""

    def execute(self) -> None:
        option_changes = {name: value for name, value in self.options.items() if value is not None}
        changes = self.set or []
        if self.on or self.submit:
            from . import batch

            if batch.wants_batch_jobs(self.stage, self.on, self.submit, self.forecast):
                batch.execute(
                    self.stage, self.recipe, self.run, changes, option_changes, self.dry_run, self.submit, self.redo
                )
                return
        from .stages import execute

        execute(
            self.stage,
            self.recipe,
            self.run,
            changes,
            option_changes,
            self.dry_run,
            self.here,
            self.forecast,
            self.redo,
        )


def endpoint_settings(stage: str, endpoints: list[str] | None) -> dict[str, object]:
    """What `--endpoint` changes: the stage's model answers at these addresses."""
    if not endpoints:
        return {}
    return {f"{stage}.backend.kind": "vllm", f"{stage}.backend.endpoints": endpoints}
