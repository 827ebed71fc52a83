"""One training process: TRL's SFTTrainer made from a job, run to its end, its weights saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import RunError
from distill.run import write_json
from distill.training import callbacks
from distill.training.job import TrainingJob
from distill.training.model import load_model, load_tokenizer, lora_config
from distill.training.saving import save
from distill.training.sft import audit
from distill.training.sft.order import Order
from distill.training.trl_arguments import common_arguments

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer


def train(job: TrainingJob) -> None:
    """Train from the newest whole checkpoint, or from the start, and leave weights and outcome in the job's folder.

    Every rank calls it. `outcome.json` says `done`, or `stopped` after a request to stop.

    Raises:
        RunError: the loss is not finite, or the first batch would not train what the rows say.
    """
    files = callbacks.JobFiles(Path(job.folder))
    trainer = build(job)
    audit.check_batch(**_first_batch(trainer), rows_path=Path(job.rows))
    reporter = callbacks.progress_reporter(job, "sft")
    trainer.add_callback(reporter)
    checkpoint = callbacks.newest_checkpoint(job.checkpoint_folder)
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    if not losses or not all(map(math.isfinite, losses)):
        bad_steps = [entry["step"] for entry in trainer.state.log_history if not math.isfinite(entry.get("loss", 0))]
        location = f"step {bad_steps[0]}" if bad_steps else "no step at all"
        raise RunError(f"the loss is not finite at {location}", fix="lower sft.learning_rate, or raise sft.warmup")
    stopped = reporter.stopped and trainer.state.global_step < trainer.state.max_steps
    outcome: callbacks.JobOutcome = {
        "status": "stopped" if stopped else "done",
        "steps": trainer.state.global_step,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "train_seconds": round(result.metrics["train_runtime"], 1),
        "resumed_at": callbacks.step_of(checkpoint) if checkpoint else 0,
    }
    if not stopped:
        save(trainer, job)
    if trainer.is_world_process_zero():
        write_json(files.outcome, outcome)


def build(job: TrainingJob) -> SFTTrainer:
    """The trainer, ready to train; no callback of ours yet."""
    import datasets
    from transformers import PrinterCallback
    from transformers.utils import logging as transformers_logging
    from trl import SFTTrainer

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    rows = datasets.load_dataset(
        "parquet", data_files=job.rows, split="train", cache_dir=str(Path(job.folder) / "cache")
    )
    common_arguments = config(job)  # before the model: it is what tells transformers about DeepSpeed
    lengths = rows["length"]
    rows = rows.select_columns(["input_ids", "labels"])
    group = job.setup.micro_batch * job.setup.processes // job.setup.sequence_parallel

    peft_config = None
    if job.setup.method != "full":
        peft_config = lora_config(job.lora, job.lora_targets)

    class OrderedSFTTrainer(SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Order:
            if job.batching == "packed":
                return Order([1] * len(self.train_dataset), 1, job.seed)
            return Order(lengths, group, job.seed)

    trainer = OrderedSFTTrainer(
        model=load_model(job),
        args=common_arguments,
        train_dataset=rows,
        processing_class=load_tokenizer(job),
        peft_config=peft_config,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def config(job: TrainingJob) -> SFTConfig:
    """TRL's common_arguments."""
    from trl import SFTConfig

    packed = job.batching == "packed"
    sequence_parallel = job.setup.sequence_parallel
    return SFTConfig(
        **common_arguments(job),
        num_train_epochs=job.schedule.epochs,
        # rows that do not fit are gone already; without packing nothing may cut the others
        max_length=job.setup.max_length if packed else None,
        packing=packed,
        pad_to_multiple_of=sequence_parallel if sequence_parallel > 1 else None,
        eos_token=job.eos,
    )


def _first_batch(trainer: SFTTrainer) -> dict[str, list[list[int]]]:
    """Token ids, labels and, when packed, positions of one micro batch as the model will get it."""
    sampler = iter(trainer._get_train_sampler())
    chosen = [next(sampler) for _ in range(min(trainer.args.per_device_train_batch_size, len(trainer.train_dataset)))]
    batch = trainer.data_collator([trainer.train_dataset[index] for index in chosen])
    return {name: batch[name].tolist() for name in ("input_ids", "labels", "position_ids") if name in batch}
