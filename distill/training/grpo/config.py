"""The settings of GRPO, and what of them TRL is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill.machine import hardware
from distill.rewards import ChosenReward, ChosenRewards
from distill.training import config as settings
from distill.training.grpo import prompts
from distill.training.grpo.guards import GuardLimits
from distill.types import NO_RESULT, Record

TrlArgument = bool | int | float | str
_TRL_NAMES = (
    "num_generations",
    "max_completion_length",
    "temperature",
    "top_p",
    "top_k",
    "loss_type",
    "beta",
    "num_iterations",
    "epsilon",
    "epsilon_high",
    "delta",
    "scale_rewards",
    "importance_sampling_level",
    "mask_truncated_completions",
    "multi_objective_aggregation",
)


class Vllm(Record):
    """Settings of `rollouts: server` or `colocate`, by TRL's names without `vllm_`."""

    server_base_url: str | None = None
    """Address of a server on other GPUs than the trainer's, which takes new weights from it; None for TRL's default.
    Start it with `VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config '{"backend": "nccl"}'
    --logprobs-mode processed_logprobs --max-logprobs -1`."""
    server_timeout: float = Field(240.0, gt=0)
    """Seconds to wait until the server answers at the start."""
    gpu_memory_utilization: float = Field(0.3, gt=0, le=1)
    """Share of each GPU that a colocated engine takes."""
    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs over which a colocated engine spreads each layer."""
    enable_sleep_mode: bool = False
    """Whether a colocated engine frees its memory while the student is updated."""


class Config(settings.Config):
    """What is called as in TRL's GRPOConfig means the same there."""

    pass_rate: prompts.PassRateBand = prompts.PassRateBand()
    """Band of pass rates that a prompt to learn from has: how often the teacher solves it, as generate estimated."""
    order: prompts.PromptOrder = "shuffled"
    """Order of the prompts: `shuffled`, by falling pass rate (`easy_to_hard`), or drawn with p ∝ 1 − pass rate
    (`prioritised`)."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps of the whole training; None makes `epochs` passes over the prompts."""
    rewards: ChosenRewards = Field(
        default_factory=lambda: {name: ChosenReward.of({}, name) for name in ("accuracy", "format")}
    )
    """Rewards by name with their settings, `weight` among them; `name: false` switches one off."""
    rollouts: Annotated[Literal["auto", "generate", "server", "colocate"], NO_RESULT] = "auto"
    """Engine that samples: vLLM as a `server` or `colocate`d with the trainer, or transformers' `generate`, the only
    one on a CPU. `auto` colocates where there are a GPU and vLLM."""
    vllm: Annotated[Vllm, NO_RESULT] = Vllm()
    """Settings of the vLLM engine, used by the rollouts server and colocate."""
    num_generations: int = Field(8, ge=2)
    """Completions of each prompt, which are compared with one another."""
    max_completion_length: int = Field(8192, ge=1)
    """Most tokens of a completion; a longer one is cut."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature of the completions."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Share of the probability that the tokens to choose from make up; 1 allows all."""
    top_k: int = Field(0, ge=0)
    """Most tokens to choose from at each step; 0 allows all."""
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    """Formula of the loss, by TRL's name: `dapo` weighs all tokens of a batch alike; `grpo` all completions, which
    favours short ones; `dr_grpo` divides by `max_completion_length`."""
    beta: float = Field(0.0, ge=0)
    """Weight of the KL divergence from where the student began; 0 needs no reference model."""
    num_iterations: int = Field(1, ge=1)
    """Optimizer steps taken on each batch of completions (μ of the GRPO paper)."""
    epsilon: float = Field(0.2, gt=0)
    """Clipping bound of the probability ratio, below 1 and, without `epsilon_high`, above it."""
    epsilon_high: float | None = Field(None, gt=0)
    """Upper clipping bound of the probability ratio; None takes that of `epsilon`. DAPO's is 0.28."""
    delta: float | None = Field(None, gt=0)
    """Greatest probability ratio that counts where the advantage is negative (INTELLECT-2), above 1 + `epsilon`; None
    sets no limit."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Deviation that advantages are divided by. `group` takes the group's own, as the paper does: where a whole group
    is wrong, a small reward then weighs as much as accuracy does elsewhere, so that format pays for any answer at all.
    `batch` takes the batch's, which keeps such rewards small."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Unit over which probability ratios are taken: each `token`, or the mean of a `sequence` (GSPO)."""
    mask_truncated_completions: bool = False
    """Whether completions that were cut are left out of the loss."""
    multi_objective_aggregation: Literal["sum_then_normalize", "normalize_then_sum"] = "sum_then_normalize"
    """Way in which rewards are joined: their weighted sum is normalised, or each is normalised in its group before the
    sum (GDPO)."""
    limits: Annotated[GuardLimits, NO_RESULT] = GuardLimits()
    """Bounds at which a training that goes wrong is stopped."""
    samples_every: Annotated[int, NO_RESULT] = Field(10, ge=1)
    """Steps between completions that are put into grpo/samples.jsonl to be read."""
    max_length: int | None = Field(None, ge=16)
    """Longest prompt + completion in tokens, None for the student's context; prompts that leave no room for a
    completion are left out."""
    epochs: float | None = Field(1.0, gt=0)
    """Passes over the prompts; None takes as many as the student's preset names."""
    learning_rate: float | None = Field(1e-6, gt=0)
    """Peak learning rate; None takes the student preset's, with LoRA times ten."""
    batch_size: int = Field(64, ge=2)
    """Completions per optimizer step, over all devices."""
    schedule: Literal["cosine", "linear", "constant_with_warmup", "cosine_with_min_lr"] = "constant_with_warmup"
    warmup: float = Field(0.0, ge=0, lt=1)
    nodes: Annotated[int | None, NO_RESULT] = Field(1, ge=1, le=1)
    """Nodes to train on: one; sampling can be spread with `rollouts: server`."""
    sequence_parallel: Annotated[int | None, NO_RESULT] = Field(1, ge=1, le=1)
    """GPUs that share one row: one, since TRL's GRPOTrainer splits none."""


def arguments(config: Config) -> dict[str, TrlArgument]:
    """TRL's own arguments, as GRPOConfig takes them."""
    dumped = config.model_dump(include=set(_TRL_NAMES))
    trl_arguments = {name: value for name, value in dumped.items() if value is not None}
    rollouts = config.rollouts
    if rollouts == "auto":
        has_vllm = hardware.gpus() and hardware.installed("vllm")
        rollouts = "colocate" if has_vllm else "generate"
    if rollouts == "generate":
        return trl_arguments
    vllm = {f"vllm_{name}": value for name, value in config.vllm.model_dump().items() if value is not None}
    return {**trl_arguments, "use_vllm": True, "vllm_mode": rollouts, **vllm}
