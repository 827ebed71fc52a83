"""One GRPO process: TRL's GRPOTrainer made from a job, run to its end or to a guard's word, its weights saved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import Field

from distill import rewards
from distill.errors import RunError
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.rewards import ChosenRewards, RewardContext
from distill.rollouts.trl import Batch, RewardFunctions
from distill.run import write_json
from distill.training import callbacks, model, saving, trl_arguments
from distill.training.grpo import lean_trainer, prompts, samples
from distill.training.grpo.config import TrlArgument
from distill.training.grpo.guards import GuardLimits, Watch
from distill.training.job import TrainingJob
from distill.types import Message

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from trl import GRPOConfig, GRPOTrainer

_RENAMED_METRICS = {
    "completions/mean_length": "completion_length",
    "completions/max_length": "completion_length_max",
    "completions/clipped_ratio": "clipped_ratio",
    "clip_ratio/region_mean": "clip_ratio",
    "step_time": "step_seconds",
}
_KEPT_METRICS = ("loss", "learning_rate", "grad_norm", "reward", "reward_std", "frac_reward_zero_std", "kl", "entropy")


class GrpoJob(TrainingJob):
    """A training job whose `rows` is prompts.parquet, with what GRPO needs besides."""

    rewards: ChosenRewards
    tags: Tags
    order: prompts.PromptOrder
    steps: int
    arguments: dict[str, TrlArgument]
    """TRL's own, by their names in GRPOConfig."""
    limits: GuardLimits = GuardLimits()
    samples: str
    """Path of the .jsonl that completions are put into to be read."""
    samples_every: int = Field(10, ge=1)

    def fingerprint(self, rows: str) -> str:
        """What only watches may change between a stop and the next start."""
        plain = self.model_copy(update={"limits": GuardLimits(), "samples": "", "samples_every": 1})
        return super(GrpoJob, plain).fingerprint(rows)


class GuardCallback(Protocol):
    """A transformers callback that ends the training where a guard says so."""

    reason: str
    """Why it did; empty while all is well."""


def train(job: GrpoJob) -> None:
    """Train from the newest whole checkpoint, or from the start, and leave weights and outcome in the job's folder.

    Every rank calls it. `outcome.json` says `done`, or `stopped` after a request to stop.

    Raises:
        RunError: a guard stopped it (with a checkpoint), the loss is not finite, or the trainer would show the student
            other prompts than inference does.
    """
    files = callbacks.JobFiles(Path(job.folder))
    grpo_trainer = build(job)
    _check_prompts(grpo_trainer, job)
    checkpoint = callbacks.newest_checkpoint(job.checkpoint_folder)
    resumed_step = callbacks.step_of(checkpoint) if checkpoint else 0
    watch = Watch(job.limits)
    watch.replay(_earlier_rows(Path(job.metrics), resumed_step))
    guard = _guard(watch)
    grpo_trainer.add_callback(callbacks.progress_reporter(job, "grpo", metrics_row))
    grpo_trainer.add_callback(guard)
    result = grpo_trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    steps = grpo_trainer.state.global_step
    history = [entry for entry in grpo_trainer.state.log_history if "reward" in entry]
    if bad_steps := [entry["step"] for entry in history if not math.isfinite(entry.get("loss", 0))]:
        raise RunError(
            f"the loss is not finite at step {bad_steps[0]}", fix="lower grpo.learning_rate, or raise grpo.warmup"
        )
    if guard.reason:
        raise RunError(
            f"stopped at step {steps}: {guard.reason}",
            where=job.samples,
            fix="read the completions there; with other grpo.limits the same command goes on from the checkpoint",
        )
    stopped = steps < grpo_trainer.state.max_steps
    if not stopped:
        saving.save(grpo_trainer, job)
    mean_rewards = [entry["reward"] for entry in history if entry["reward"] is not None]
    outcome: callbacks.JobOutcome = {
        "status": "stopped" if stopped else "done",
        "steps": steps,
        "first_reward": _mean(mean_rewards[:10]),
        "last_reward": _mean(mean_rewards[-10:]),
        "train_seconds": round(result.metrics["train_runtime"], 1),
        "resumed_at": resumed_step,
    }
    if grpo_trainer.is_world_process_zero():
        write_json(files.outcome, outcome)


def build(job: GrpoJob) -> GRPOTrainer:
    """The trainer, ready to train; no callback of ours yet."""
    import datasets
    from transformers import PrinterCallback
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    cache = str(Path(job.folder) / "cache")
    rows = datasets.load_dataset("parquet", data_files=job.rows, split="train", cache_dir=cache)
    arguments = config(job)  # before the model: it is what tells transformers about DeepSpeed
    groups = job.setup.batch // arguments.num_generations
    count = -(-job.steps // arguments.num_iterations) * groups
    rates = [info["pass_rate"] for info in rows["extra_info"]]
    rows = rows.select(prompts.order(rates, count, job.order, job.seed))
    functions = RewardFunctions(
        rewards.build(job.rewards, reward_context(job)), reward_context(job), _samples_writer(job, arguments)
    )
    arguments.reward_weights = functions.weights
    peft_config = None
    if job.setup.method != "full":
        peft_config = model.lora_config(job.lora, job.lora_targets)
    grpo_trainer = lean_trainer.trainer_class()(
        model=model.load_model(job),
        reward_funcs=functions.all(),
        args=arguments,
        train_dataset=rows,
        processing_class=model.load_tokenizer(job),
        peft_config=peft_config,
    )
    grpo_trainer.remove_callback(PrinterCallback)
    return grpo_trainer


def config(job: GrpoJob) -> GRPOConfig:
    """TRL's arguments."""
    from trl import GRPOConfig

    return GRPOConfig(
        **trl_arguments.common_arguments(job),
        **job.arguments,
        max_steps=job.steps,
        shuffle_dataset=False,  # the order is ours
    )


def reward_context(job: GrpoJob) -> RewardContext:
    """What the job's rewards may need besides the rollouts."""
    return RewardContext(
        tokenizer=Tokenizer(job.model, job.revision, job.template),
        eos=job.eos,
        tags=job.tags,
        group_size=int(job.arguments["num_generations"]),
        max_tokens=int(job.arguments["max_completion_length"]),
    )


def metrics_row(logs: callbacks.Logs) -> dict[str, float]:
    """The part of TRL's logs that goes into metrics.jsonl, under the names it has there."""
    metrics = {name: logs[name] for name in _KEPT_METRICS if name in logs}
    metrics |= {ours: logs[theirs] for theirs, ours in _RENAMED_METRICS.items() if theirs in logs}
    means = {name: value for name, value in logs.items() if name.startswith("rewards/") and name.endswith("/mean")}
    return metrics | {name.removesuffix("/mean"): value for name, value in means.items()}


def _samples_writer(job: GrpoJob, arguments: GRPOConfig) -> Callable[[Batch], None] | None:
    """What puts completions aside to be read, on the first rank; None on the others."""
    if arguments.process_index != 0:
        return None
    return samples.writer(Path(job.samples), job.samples_every)


def _guard(watch: Watch) -> GuardCallback:
    from transformers import TrainerCallback

    class Guard(TrainerCallback):  # type: ignore[misc]
        reason = ""

        def on_log(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            logs: callbacks.Logs | None = None,
            **_: object,
        ) -> None:
            if not logs or "reward" not in logs:
                return
            self.reason = self.reason or watch.observe(metrics_row(logs))
            if callbacks.on_any_rank(bool(self.reason), args.device):
                control.should_training_stop = True
                control.should_save = True

    return Guard()


def _earlier_rows(metrics: Path, steps: int) -> list[dict[str, object]]:
    """The rows of this stage up to the step `steps`; of a step that was repeated after a kill, the last."""
    if not steps or not metrics.is_file():
        return []
    rows = map(json.loads, metrics.read_text(encoding="utf-8").splitlines())
    row_of_step = {
        logged["step"]: logged for logged in rows if logged.get("stage") == "grpo" and logged["step"] <= steps
    }
    return [row_of_step[step] for step in sorted(row_of_step)]


def _check_prompts(grpo_trainer: GRPOTrainer, job: GrpoJob) -> None:
    """Stop where TRL, which renders prompts with transformers, shows others than `models.chat` renders for inference.

    Raises:
        RunError: the first prompt differs.
    """
    tokenizer = Tokenizer(job.model, job.revision, job.template)
    turns = grpo_trainer.train_dataset[0]["prompt"]
    trainer_ids = grpo_trainer.processing_class.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    prompt = tokenizer.prompt([Message.model_validate(turn) for turn in turns], job.tags)
    if list(trainer_ids) != list(prompt.ids):
        raise RunError(
            f"the trainer's prompt has {len(trainer_ids)} tokens, inference's {len(prompt.ids)}, and they differ",
            where=job.model,
            fix="does tokenizer_config.json name another template or a BOS of its own?",
        )


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
