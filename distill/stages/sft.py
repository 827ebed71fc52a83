"""sft: fine-tune the student on the kept traces with TRL's SFTTrainer, after checking what would be learnt."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import Field

from distill.errors import InputError
from distill.machine import hardware
from distill.models import presets
from distill.progress import LOG
from distill.run import Run
from distill.sampling.engine import SMALL
from distill.stages import StageJob, Summary
from distill.training import launch, saving
from distill.training.job import TrainingJob
from distill.training.sft import config, prepare

WORKER = "distill.training.sft.worker"


class Config(config.Config):
    data: str | None = None
    """Another run folder, whose sft set is trained on instead of this run's."""
    stop_check: int = Field(4, ge=0)
    """Traces on which the finished student must show that it stops."""


def inputs(job: StageJob[Config]) -> dict[str, Path]:
    set_path = _set_path(job)
    paths = {str(set_path): set_path}
    if Path(job.student.model).is_dir():
        paths[job.student.model] = Path(job.student.model)
    return paths


def outputs(run: Run) -> list[Path]:
    return [run.student]


def run(job: StageJob[Config]) -> Summary:
    """Check, train and save `student/` with tokenizer, chat template and generation config, so that vLLM serves it.

    Raises:
        InputError: no set to train on, a student that needs GPUs, or a hyperparameter that nothing gives.
        RunError: the audit fails, too many rows are too long, or training fails.
        Stopped: told to stop; a checkpoint is there and the same command goes on.
    """
    if not hardware.gpus() and presets.shape(job.student).parameters > SMALL:
        raise InputError(
            f"fine-tuning {job.student.name} ({job.student.model}) needs GPUs ({job.student.hardware}) and this machine"
            " has none",
            fix="run the same command where they are; the run folder can be copied there",
        )
    began = time.monotonic()
    training, rows_built, audit = _prepared(job)
    outcome = launch.run(training, _train_here, WORKER, job.progress, "sft")
    if training.setup.method != "full" and training.lora.merge:
        saving.merge(training)
    stopping = _stopping(job, training)
    saving.swap(training, job.run.student)
    return {
        "rows": rows_built.rows,
        "dropped_too_long": rows_built.dropped,
        "dropped_by_set": rows_built.dropped_by_set,
        "tokens": rows_built.tokens,
        "loss_tokens": rows_built.loss_tokens,
        "audited": audit.rows,
        "model": job.student.model,
        "setup": training.setup.model_dump(mode="json"),
        "batching": training.batching,
        **{name: value for name, value in outcome.items() if name != "status"},
        "stops": stopping.model_dump() if stopping else None,
        "seconds": round(time.monotonic() - began, 1),
    }


def follow(job: StageJob[Config]) -> None:
    """Run a further node's processes of the job that the first node prepares and finishes."""
    launch.follow(job.run.folder / "training", WORKER)


def preview(job: StageJob[Config]) -> Summary:
    """Everything up to the first step: the audit's example, the lengths, the setup, the exact launch command.

    Nothing is written.
    """
    training, rows_built, audit = _prepared(job, keep=False)
    return {"job": training, "audit": audit, "built": rows_built, "command": launch.command(training, WORKER)}


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
