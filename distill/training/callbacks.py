"""What the trainer tells and is told while it runs: metrics, progress, a clean stop, checkpoints that are whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from distill.run import write_json
from distill.training.job import TrainingJob

if TYPE_CHECKING:
    import torch
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_COMPLETE_MARK = "whole.json"
Logs = Mapping[str, float]
"""What transformers logs of a step."""
_METRICS = ("loss", "learning_rate", "grad_norm", "epoch", "entropy", "mean_token_accuracy", "num_tokens")


class JobFiles:
    """The small files by which the processes of a job and the stage that started them talk."""

    def __init__(self, folder: Path) -> None:
        self.stop = folder / "stop"
        """Exists when training is to save a checkpoint and end; on a shared disk all nodes see it."""
        self.progress = folder / "progress.json"
        self.outcome = folder / "outcome.json"


class JobOutcome(TypedDict, total=False):
    """What outcome.json says: `what`, `where` and `fix` of a job that failed, the rest of one that trained."""

    status: Literal["done", "stopped", "failed"]
    steps: int
    first_loss: float
    last_loss: float
    first_reward: float | None
    last_reward: float | None
    train_seconds: float
    resumed_at: int
    what: str
    where: str | None
    fix: str | None


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; a crash may leave one that was not."""
    checkpoints = [path for path in folder.glob("checkpoint-*") if (path / _COMPLETE_MARK).is_file()]
    return max(checkpoints, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which a checkpoint was written, read from its name."""
    return int(checkpoint.name.rpartition("-")[2])


def logged_metrics(logs: Logs) -> dict[str, float]:
    """The part of a step's logs that goes into metrics.jsonl."""
    return {name: logs[name] for name in logs if name in _METRICS}


def progress_reporter(
    job: TrainingJob, stage: str, metrics_row: Callable[[Logs], dict[str, float]] = logged_metrics
) -> TrainerCallback:
    """A transformers callback that reports as `stage`."""
    from transformers import TrainerCallback

    files = JobFiles(Path(job.folder))
    metrics = Path(job.metrics)

    class ProgressReporter(TrainerCallback):  # type: ignore[misc]
        stopped = False

        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
        ) -> None:
            self._write_progress(state, {})

        def on_log(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            logs: Logs | None = None,
            **_: object,
        ) -> None:
            if not logs or "loss" not in logs:
                return
            if not math.isfinite(float(logs["loss"])):
                control.should_training_stop = True
            if state.is_world_process_zero:
                row = {"stage": stage, "step": state.global_step, **metrics_row(logs)}
                with metrics.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                self._write_progress(state, logs)

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
        ) -> None:
            if on_any_rank(files.stop.exists(), args.device):
                self.stopped = True
                control.should_training_stop = True
                control.should_save = True

        def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
            wait_for_all_ranks()  # the other ranks' parts are written too
            if state.is_world_process_zero:
                step = state.global_step
                write_json(job.checkpoint_folder / f"checkpoint-{step}" / _COMPLETE_MARK, {"step": step})

        def _write_progress(self, state: TrainerState, logs: Logs) -> None:
            if state.is_world_process_zero:
                progress = {"step": state.global_step, "steps": state.max_steps}
                progress |= {name: logs.get(name) for name in ("loss", "reward")}
                write_json(files.progress, progress, durable=False)  # of use only while the job runs

    return ProgressReporter()


def on_any_rank(raised: bool, device: torch.device) -> bool:
    """Whether the flag is raised on any rank: all stop at the same step, or none."""
    import torch

    if not torch.distributed.is_initialized():
        return raised
    flag = torch.tensor(int(raised), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def wait_for_all_ranks() -> None:
    """Wait for all ranks."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.barrier()
