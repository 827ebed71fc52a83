"""What a training process is told: one JSON file, written by the stage and read by every rank."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from distill.models.presets import Rope
from distill.planning.setup import Setup
from distill.types import Record, content_id

Batching = Literal["packed", "grouped"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
Tracker = Literal["trackio", "wandb", "tensorboard"]


class Lora(Record):
    """Low-rank adapters (arXiv:2106.09685); with `method: qlora` over weights in 4 bits (arXiv:2305.14314)."""

    rank: int = Field(64, ge=1)
    """Rank of the two matrices that make up an adapter."""
    alpha: float = Field(64.0, gt=0)
    """Numerator of the factor alpha / rank by which an adapter's update is scaled."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the adapters' inputs that is dropped in training."""
    merge: bool = True
    """Whether a plain model with the adapters merged into it is saved, which eval and vLLM can serve as it is;
    `student/adapter` holds the adapters alone either way."""


class Schedule(Record):
    """How long to train, and how the learning rate changes over the steps."""

    learning_rate: float = Field(gt=0)
    kind: Literal["cosine", "linear", "constant_with_warmup", "cosine_with_min_lr"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    least: float = Field(0.1, ge=0, lt=1)
    """Where cosine_with_min_lr ends, as a share of `learning_rate`."""
    epochs: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    adam_beta2: float = Field(0.999, gt=0, lt=1)


class TrainingJob(Record):
    """All that a training process must know."""

    model: str
    revision: str | None = None
    rows: str
    """Parquet of `input_ids`, `labels` and `length`."""
    folder: str
    """Work folder: checkpoints, progress, and the trained weights before they become the student."""
    metrics: str
    """The run's metrics.jsonl."""
    template: str
    eos: str
    pad: str | None = None
    rope: Rope | None = None
    setup: Setup
    schedule: Schedule
    batching: Batching
    attention: Attention
    lora: Lora = Lora()
    lora_targets: tuple[str, ...] = ()
    checkpoints: int = Field(10, ge=0)
    trackers: tuple[Tracker, ...] = ()
    name: str = "distill"
    """The name that trackers show for the run."""
    seed: int = 0
    meeting: str | None = None
    """host:port where the nodes of this start meet; a further node waits for a job that names its own."""

    @property
    def checkpoint_folder(self) -> Path:
        return Path(self.folder) / "checkpoints"

    @property
    def trained(self) -> Path:
        """Where the trained weights, or adapters, are put."""
        return Path(self.folder) / "trained"

    def fingerprint(self, rows: str) -> str:
        """A hash of what a checkpoint must share with a job to be gone on from; `rows` identifies the rows' content.

        Places and trackers may differ, and so may what only spreads the work, but not the number of processes: a
        checkpoint holds the state of each.
        """
        excluded = {"rows", "folder", "metrics", "trackers", "name", "checkpoints", "meeting"}
        settings = self.model_dump(mode="json", exclude=excluded)
        return content_id("training", settings, rows)
