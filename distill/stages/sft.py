"""sft: fine-tune the student on the kept traces with TRL's SFTTrainer, after checking what would be learnt."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from distill.errors import InputError
from distill.machine import hardware
from distill.models import presets
from distill.planning.setup import Setup
from distill.progress import LOG
from distill.run import Run
from distill.sampling.engine import SMALL
from distill.stages import Stage, StageJob, StageSummary
from distill.training import launch, saving
from distill.training.job import Batching, TrainingJob
from distill.training.sft import config, prepare
from distill.training.sft.audit import Audit
from distill.training.sft.rows import BuiltRows
from distill.types import NO_RESULT

WORKER = "distill.training.sft.worker"


class Config(config.Config):
    data: Annotated[str | None, NO_RESULT] = None
    """Another run folder whose sft set is trained on; None trains on this run's."""
    stop_check: Annotated[int, NO_RESULT] = Field(4, ge=0)
    """Number of traces on which the finished student must show that it stops; 0 skips the check."""


class SftSummary(StageSummary):
    """What was learnt from, how, and with what loss."""

    rows: int
    dropped_too_long: int
    dropped_by_set: dict[str, tuple[int, int]]
    """Problem set to (dropped, of)."""
    tokens: int
    loss_tokens: int
    audited: int
    """Rows that were looked at one by one."""
    model: str
    setup: Setup
    batching: Batching
    steps: int
    first_loss: float
    last_loss: float
    train_seconds: float
    resumed_at: int
    """The step of the checkpoint that it went on from; 0 for the start."""
    stops: saving.StopCheck | None
    seconds: float

    def line(self) -> str:
        text = f"{self.rows:,} rows"
        if self.dropped_too_long:
            text += f", {self.dropped_too_long:,} too long and left out"
        text += f", {self.steps:,} steps, loss {self.first_loss:.3f} → {self.last_loss:.3f}"
        if self.stops:
            text += f", {self.stops.ended} of {self.stops.asked} replies stop"
        return text


class SftPreview(StageSummary):
    """What would be learnt, and how."""

    job: TrainingJob
    audit: Audit
    built: BuiltRows
    command: list[str]

    def line(self) -> str:
        return f"{self.built.rows:,} rows, {self.built.tokens:,} tokens"


class SftStage(Stage[Config]):
    summary = SftSummary
    models = ("student",)
    trains = True
    on_several_nodes = True

    def inputs(self, job: StageJob[Config]) -> dict[str, Path]:
        set_path = _set_path(job)
        paths = {str(set_path): set_path}
        if Path(job.student.model).is_dir():
            paths[job.student.model] = Path(job.student.model)
        return paths

    def outputs(self, run: Run) -> list[Path]:
        return [run.student]

    def run(self, job: StageJob[Config]) -> SftSummary:
        """Check, train and save `student/` with tokenizer, chat template and generation config, so that vLLM serves it.

        Raises:
            InputError: no set to train on, a student that needs GPUs, or a hyperparameter that nothing gives.
            RunError: the audit fails, too many rows are too long, or training fails.
            Stopped: told to stop; a checkpoint is there and the same command goes on.
        """
        if not hardware.gpus() and presets.shape(job.student).parameters > SMALL:
            raise InputError(
                f"fine-tuning {job.student.name} ({job.student.model}) needs GPUs ({job.student.hardware}) and this"
                " machine has none",
                fix="run the same command where they are; the run folder can be copied there",
            )
        began = time.monotonic()
        training, rows_built, audit = _prepared(job)
        outcome = launch.run(training, _train_here, WORKER, job.progress, "sft")
        if training.setup.method != "full" and training.lora.merge:
            saving.merge(training)
        stopping = _stopping(job, training)
        saving.swap(training, job.run.student)
        return SftSummary.model_validate(
            {
                **outcome,
                "rows": rows_built.rows,
                "dropped_too_long": rows_built.dropped,
                "dropped_by_set": rows_built.dropped_by_set,
                "tokens": rows_built.tokens,
                "loss_tokens": rows_built.loss_tokens,
                "audited": audit.rows,
                "model": job.student.model,
                "setup": training.setup,
                "batching": training.batching,
                "stops": stopping,
                "seconds": round(time.monotonic() - began, 1),
            }
        )

    def follow(self, job: StageJob[Config]) -> None:
        """Run a further node's processes of the job that the first node prepares and finishes."""
        launch.follow(job.run.folder / "training", WORKER)

    def preview(self, job: StageJob[Config]) -> SftPreview:
        """Everything up to the first step: the audit's example, the lengths, the setup, the exact launch command.

        Nothing is written.
        """
        training, rows_built, audit = _prepared(job, keep=False)
        return SftPreview(job=training, audit=audit, built=rows_built, command=launch.command(training, WORKER))


STAGE = SftStage()


def _set_path(job: StageJob[Config]) -> Path:
    run = Run(Path(job.config.data)) if job.config.data else job.run
    return run.sft / "train.parquet"


def _prepared(job: StageJob[Config], *, keep: bool = True) -> prepare.PreparedSft:
    if not _set_path(job).is_file():
        raise InputError(
            "there is no set to train on",
            where=str(_set_path(job)),
            fix="run `distill filter` first, or name a run with --data",
        )
    return prepare.prepare(job.run, job.student, job.config, _set_path(job), job.progress, keep=keep)


def _train_here(training: TrainingJob) -> None:
    from distill.training.sft import trainer

    trainer.train(training)


def _stopping(job: StageJob[Config], training: TrainingJob) -> saving.StopCheck | None:
    standalone = training.setup.method == "full" or training.lora.merge
    if not job.config.stop_check or not standalone:
        return None
    prompts, max_tokens = prepare.stop_check_beginnings(training, _set_path(job), job.student, job.config.stop_check)
    stops = saving.check_stops(training.trained, prompts, max_tokens)
    if stops.ended < stops.asked:
        LOG.warning(
            "sft: %d of %d replies did not end: train longer or on more traces; `distill eval` tells the cut rate",
            stops.asked - stops.ended,
            stops.asked,
        )
    return stops
