"""What is trained: the base model, its tokenizer and the adapters, loaded as a job says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.training.job import Lora, TrainingJob

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def model_config(job: TrainingJob) -> PreTrainedConfig:
    """The base's config, with its positions stretched as the job says."""
    from transformers import AutoConfig

    base_config = AutoConfig.from_pretrained(job.model, revision=job.revision)
    if job.rope is not None:
        base_config.rope_parameters = {**(base_config.rope_parameters or {}), "rope_theta": job.rope.theta}
        base_config.max_position_embeddings = job.rope.context
    return base_config


def load_model(job: TrainingJob) -> PreTrainedModel:
    """The base model as it is trained: in full precision, in bf16, or in 4 bits."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

    setup = job.setup
    # full precision weights under bf16 autocast: small updates vanish in bf16 weights. DeepSpeed keeps its own
    # full precision copy, and frozen weights need none.
    full_precision = setup.method == "full" and not setup.zero
    quantization = {}
    if setup.method == "qlora":
        quantization["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_quant_storage=torch.bfloat16,  # what ZeRO-3 can split
        )
    model = AutoModelForCausalLM.from_pretrained(
        job.model,
        revision=job.revision,
        config=model_config(job),
        dtype=torch.float32 if full_precision else torch.bfloat16,
        attn_implementation=job.attention,
        **quantization,
    )
    # the base's own file may cap the length or ask for greedy decoding; these are the settings that R1 is used with
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.6, top_p=0.95)
    model.config.use_cache = False
    return model


def load_tokenizer(job: TrainingJob) -> PreTrainedTokenizerBase:
    """The base's tokenizer with the job's template, EOS, padding and length."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.model, revision=job.revision)
    tokenizer.chat_template = job.template
    tokenizer.eos_token = job.eos
    if job.pad is not None:
        tokenizer.pad_token = job.pad
    if job.rope is not None:
        tokenizer.model_max_length = job.rope.context
    return tokenizer


def lora_config(lora: Lora, targets: tuple[str, ...]) -> LoraConfig:
    """PEFT's configuration of the adapters."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
