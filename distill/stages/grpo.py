"""grpo: let the student learn from rewards on its own completions with TRL's GRPOTrainer, watched by guards."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from distill.errors import InputError
from distill.machine import hardware
from distill.models import presets
from distill.models.presets import Student
from distill.planning.setup import Setup
from distill.problems import sets
from distill.run import Run, stamp
from distill.sampling.engine import SMALL
from distill.stages import Stage, StageJob, StageSummary, load_problems
from distill.store import jsonl
from distill.training import callbacks, launch, saving
from distill.training.grpo import config as grpo_config
from distill.training.grpo import prepare, prompts
from distill.training.grpo.trainer import GrpoJob
from distill.types import NO_RESULT, Problem

WORKER = "distill.training.grpo.worker"


class Config(grpo_config.Config):
    data: Annotated[str | None, NO_RESULT] = None
    """Another run folder whose problems and pass rates are used; None takes this run's."""
    problems: str | None = None
    """Problem set used instead of a run's problems, its `train` split unless another is named; None takes the run's."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many problems are used; None takes all."""
    start: Literal["student", "base"] = "student"
    """Model that is trained on: the one that sft made (`student`), or the untrained one (`base`, as R1-Zero)."""


class GrpoSummary(StageSummary):
    """What was learnt from, how, and with what reward."""

    model: str
    prompts: prompts.ChosenPrompts
    rewards: dict[str, list[float]]
    """The different values that each reward gave to synthetic completions."""
    setup: Setup
    steps: int
    first_reward: float | None
    last_reward: float | None
    train_seconds: float
    resumed_at: int
    """The step of the checkpoint that it went on from; 0 for the start."""
    seconds: float

    def line(self) -> str:
        return f"{self.prompts.rows:,} prompts, {self.steps:,} steps, mean reward {self._mean_rewards()}"

    def _mean_rewards(self) -> str:
        if self.first_reward is None or self.last_reward is None:
            return "not known"
        return f"{self.first_reward:.3f} → {self.last_reward:.3f}"


class GrpoPreview(StageSummary):
    """What would be learnt from, and how."""

    job: GrpoJob
    prompts: prompts.ChosenPrompts
    rewards: dict[str, list[float]]
    """The different values that each reward gave to synthetic completions."""
    command: list[str]

    def line(self) -> str:
        return f"{self.prompts.rows:,} prompts, {self.job.steps:,} steps"


class GrpoStage(Stage[Config]):
    summary = GrpoSummary
    models = ("student",)
    trains = True

    def inputs(self, job: StageJob[Config]) -> dict[str, Path]:
        source = _source(job)
        paths = [source.problems, source.rates]
        if job.config.problems:
            paths = [*sets.local_files(job.config.problems, "train")]
        model = Path(_starting_student(job).model)
        if model.is_dir() or job.config.start == "student":
            paths.append(model)
        return {str(path): path for path in paths}

    def outputs(self, run: Run) -> list[Path]:
        return [run.grpo]

    def facts(self, job: StageJob[Config]) -> dict[str, str]:
        """Hashes of the user's own reward files, on which the trained model depends."""
        kinds = [chosen.kind for chosen in job.config.rewards.values() if chosen]
        stamps = {kind: stamp(Path(kind)) for kind in kinds if kind.endswith(".py")}
        return {kind: file_stamp["hash"] for kind, file_stamp in stamps.items() if file_stamp}

    def run(self, job: StageJob[Config]) -> GrpoSummary:
        """Choose prompts, try the rewards, train, and save `grpo/` as sft saves `student/`.

        Raises:
            InputError: no student or no problems, a reward that can never fire, or settings that do not go together.
            RunError: a guard stopped the training, or it failed.
            Stopped: told to stop; a checkpoint is there and the same command goes on.
        """
        if not hardware.gpus() and presets.shape(job.student).parameters > SMALL:
            raise InputError(
                f"GRPO of {job.student.name} ({job.student.model}) needs GPUs and this machine has none",
                fix="run the same command where they are; the run folder can be copied there",
            )
        began = time.monotonic()
        training, chosen, reward_trials = _prepared(job)
        if callbacks.newest_checkpoint(training.checkpoint_folder) is None:
            Path(training.samples).unlink(missing_ok=True)  # of an earlier training
        outcome = launch.run(training, lambda _: _train_here(training), WORKER, job.progress, "grpo")
        if training.setup.method != "full" and training.lora.merge:
            saving.merge(training)
        for path in (Path(training.rows), Path(training.samples)):
            if path.is_file():
                shutil.copy2(path, training.trained / path.name)
        saving.swap(training, job.run.grpo)
        return GrpoSummary.model_validate(
            {
                **outcome,
                "model": training.model,
                "prompts": chosen,
                "rewards": reward_trials,
                "setup": training.setup,
                "seconds": round(time.monotonic() - began, 1),
            }
        )

    def preview(self, job: StageJob[Config]) -> GrpoPreview:
        """Everything up to the first step: prompts, trial scores of the rewards, the setup, the exact launch command.

        Nothing is written.
        """
        training, chosen, reward_trials = _prepared(job, keep=False)
        command = launch.command(training, WORKER)
        return GrpoPreview(job=training, prompts=chosen, rewards=reward_trials, command=command)


STAGE = GrpoStage()


def _train_here(training: GrpoJob) -> None:
    from distill.training.grpo import trainer

    trainer.train(training)


def _source(job: StageJob[Config]) -> Run:
    return Run(Path(job.config.data)) if job.config.data else job.run


def _problems(job: StageJob[Config]) -> list[Problem]:
    config = job.config
    if config.problems:
        return load_problems(config.problems, "train", config.limit)[0]
    path = _source(job).problems
    if not path.is_file():
        raise InputError(
            "there are no problems to learn from",
            where=str(path),
            fix="run `distill generate` first, or name a set with --problems",
        )
    return [Problem.model_validate(row) for _, row in jsonl.rows(path)][: config.limit]


def _starting_student(job: StageJob[Config]) -> Student:
    """The student that the training starts from."""
    if job.config.start == "base":
        return job.student
    return job.student.model_copy(
        update={"model": str(job.run.student), "revision": None, "template": None, "rope": None, "shape": None}
    )


def _prepared(job: StageJob[Config], *, keep: bool = True) -> prepare.PreparedGrpo:
    config = job.config
    if config.start == "student" and not (job.run.student / "config.json").is_file():
        raise InputError(
            "there is no student yet",
            where=str(job.run.student),
            fix="run `distill sft` first, or --set grpo.start=base to learn from rewards alone",
        )
    rates = prompts.pass_rates_of(_source(job))
    return prepare.prepare(job.run, _starting_student(job), config, _problems(job), rates, keep=keep)
