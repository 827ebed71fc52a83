"""One GRPO process: TRL's GRPOTrainer made from a job, run to its end or to a guard's word, its weights saved."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from distill import rewards
from distill.errors import RunError
from distill.models.chat import Tags, Tokenizer
from distill.rewards import Context
from distill.rollouts.trl import Functions
from distill.run import write_json
from distill.training import callbacks
from distill.training.grpo import lean_trainer, prompts, samples
from distill.training.grpo.guards import Limits, Watch
from distill.training.job import Job as Training
from distill.training.sft import trainer
from distill.types import Message

if TYPE_CHECKING:
    from trl import GRPOConfig

_NAMES = {
    "completions/mean_length": "completion_length",
    "completions/max_length": "completion_length_max",
    "completions/clipped_ratio": "clipped_ratio",
    "clip_ratio/region_mean": "clip_ratio",
    "step_time": "step_seconds",
}
_KEPT = ("loss", "learning_rate", "grad_norm", "reward", "reward_std", "frac_reward_zero_std", "kl", "entropy")


class Job(Training):
    """`rows` is prompts.parquet."""

    rewards: dict[str, Any]
    tags: Tags
    order: prompts.How
    steps: int
    arguments: dict[str, Any]
    """TRL's own, by their names in GRPOConfig."""
    limits: Limits = Limits()
    samples: str
    """A .jsonl for completions to read."""
    samples_every: int = Field(10, ge=1)

    def fingerprint(self, rows: str) -> str:
        """What only watches may change between a stop and the next start."""
        plain = self.model_copy(update={"limits": Limits(), "samples": "", "samples_every": 1})
        return super(Job, plain).fingerprint(rows)


def train(job: Job) -> None:
    """Train from the newest whole checkpoint, or from the start, and leave weights and outcome in the job's folder.

    Every rank calls it. `outcome.json` says `done`, or `stopped` after a request to stop.

    Raises:
        RunError: a guard stopped it (with a checkpoint), or the loss is not finite.
        InputError: the trainer would show the student other prompts than inference does.
    """
    files = callbacks.Files(Path(job.folder))
    made = build(job)
    _same_prompts(made, job)
    before = callbacks.last_whole(job.checkpoint_folder)
    begun = int(before.name.rpartition("-")[2]) if before else 0
    watch = Watch(job.limits)
    watch.recall(_rows(Path(job.metrics), begun))
    report, guard = callbacks.build(job, "grpo", row), _guard(watch)
    made.add_callback(report)
    made.add_callback(guard)
    result = made.train(resume_from_checkpoint=str(before) if before else None)
    steps = made.state.global_step
    history = [entry for entry in made.state.log_history if "reward" in entry]
    if bad := [entry["step"] for entry in history if not math.isfinite(entry.get("loss", 0))]:
        raise RunError(f"the loss is not finite at step {bad[0]}", fix="lower grpo.learning_rate, or raise grpo.warmup")
    if guard.why:
        raise RunError(
            f"stopped at step {steps}: {guard.why}",
            where=job.samples,
            fix="read the completions there; with other grpo.limits the same command goes on from the checkpoint",
        )
    stopped = steps < made.state.max_steps
    if not stopped:
        trainer.save(made, job)
    earned = [entry["reward"] for entry in history if entry["reward"] is not None]
    outcome = {
        "status": "stopped" if stopped else "done",
        "steps": steps,
        "first_reward": _mean(earned[:10]),
        "last_reward": _mean(earned[-10:]),
        "train_seconds": round(result.metrics["train_runtime"], 1),
        "resumed_at": begun,
    }
    if made.is_world_process_zero():
        write_json(files.outcome, outcome)


def build(job: Job) -> Any:
    """The trainer, ready to train; no callback of ours yet."""
    import datasets
    from transformers import PrinterCallback
    from transformers.utils import logging as told

    datasets.disable_progress_bars()
    told.disable_progress_bar()
    cache = str(Path(job.folder) / "cache")
    rows = datasets.load_dataset("parquet", data_files=job.rows, split="train", cache_dir=cache)
    arguments = config(job)  # before the model: it is what tells transformers about DeepSpeed
    groups = job.setup.batch // arguments.num_generations
    count = -(-job.steps // arguments.num_iterations) * groups
    rates = [about["pass_rate"] for about in rows["extra_info"]]
    rows = rows.select(prompts.order(rates, count, job.order, job.seed))
    functions = Functions(rewards.build(job.rewards, context(job)), context(job), _reader(job, arguments))
    arguments.reward_weights = functions.weights
    made = lean_trainer.trainer()(
        model=trainer.load_model(job),
        reward_funcs=functions.all(),
        args=arguments,
        train_dataset=rows,
        processing_class=trainer.load_tokenizer(job),
        peft_config=None if job.setup.method == "full" else trainer.adapters(job.lora, job.lora_targets),
    )
    made.remove_callback(PrinterCallback)
    return made


def config(job: Job) -> GRPOConfig:
    """TRL's arguments."""
    from trl import GRPOConfig

    return GRPOConfig(
        **trainer.arguments(job),
        **job.arguments,
        max_steps=job.steps,
        shuffle_dataset=False,  # the order is ours
    )


def context(job: Job) -> Context:
    return Context(
        tokenizer=Tokenizer(job.model, job.revision, job.template),
        eos=job.eos,
        tags=job.tags,
        group=job.arguments["num_generations"],
        max_tokens=job.arguments["max_completion_length"],
    )


def row(logs: dict[str, Any]) -> dict[str, Any]:
    """What of TRL's logs goes into metrics.jsonl, and under which name."""
    found = {name: logs[name] for name in _KEPT if name in logs}
    found |= {ours: logs[theirs] for theirs, ours in _NAMES.items() if theirs in logs}
    means = {name: value for name, value in logs.items() if name.startswith("rewards/") and name.endswith("/mean")}
    return found | {name.removesuffix("/mean"): value for name, value in means.items()}


def _reader(job: Job, arguments: GRPOConfig) -> Any:
    return samples.writer(Path(job.samples), job.samples_every) if arguments.process_index == 0 else None


def _guard(watch: Watch) -> Any:
    from transformers import TrainerCallback

    class Guard(TrainerCallback):  # type: ignore[misc]
        why = ""

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if not logs or "reward" not in logs:
                return
            self.why = self.why or watch.look(row(logs))
            if callbacks.anywhere(bool(self.why), args.device):
                control.should_training_stop = control.should_save = True

    return Guard()


def _rows(metrics: Path, steps: int) -> list[dict[str, Any]]:
    """The rows of this stage up to a step; of a step that was repeated after a kill, the last."""
    if not steps or not metrics.is_file():
        return []
    rows = map(json.loads, metrics.read_text(encoding="utf-8").splitlines())
    found = {one["step"]: one for one in rows if one.get("stage") == "grpo" and one["step"] <= steps}
    return [found[step] for step in sorted(found)]


def _same_prompts(made: Any, job: Job) -> None:
    """TRL renders prompts with transformers; inference shows what `chat` renders."""
    tokenizer = Tokenizer(job.model, job.revision, job.template)
    turns = made.train_dataset[0]["prompt"]
    theirs = made.processing_class.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    ours = tokenizer.prompt([Message.model_validate(turn) for turn in turns], job.tags)
    if list(theirs) != list(ours.ids):
        raise RunError(
            f"the trainer's prompt has {len(theirs)} tokens, inference's {len(ours.ids)}, and they differ",
            where=job.model,
            fix="does tokenizer_config.json name another template or a BOS of its own?",
        )


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
