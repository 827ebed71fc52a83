"""README.md of a student: what it is, what it can do and with what certainty, how it was made, what binds its users."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from distill.models import chat, reasoning
from distill.progress import duration
from distill.publishing import licences, sections
from distill.publishing.facts import Facts
from distill.publishing.licences import LicenceFinding
from distill.publishing.text import code, plain, table
from distill.types import Metric, Score

if TYPE_CHECKING:
    from huggingface_hub import CardData

_ROLES = {"teacher": "teacher", "base": "base", "sft": "student", "grpo": "student after GRPO"}


def metadata(facts: Facts, findings: Sequence[LicenceFinding], *, adapter: bool) -> CardData:
    """The card's front matter, a `ModelCardData`."""
    from huggingface_hub import ModelCardData

    licence, licence_name = licences.card_licence(facts.base.licence, findings)
    relation = None
    if facts.base.hub:
        relation = "adapter" if adapter else "finetune"
    tags = ["reasoning", "distillation", "distill"]
    if "trl" in facts.versions:
        tags.append("trl")
    return ModelCardData(
        language=sections.languages(facts),
        license=licence,
        license_name=licence_name,
        license_link="LICENSE.md" if licence_name else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        base_model=facts.base.hub,
        base_model_relation=relation,
        tags=tags,
    )


def text(
    facts: Facts,
    findings: Sequence[LicenceFinding],
    name: str,
    location: str,
    part_hashes: Mapping[str, str | None],
    provenance_hash: str,
    *,
    adapter: bool,
) -> str:
    """The card's body.

    Args:
        name: what the model is called.
        location: what loads it, a Hub id or a folder.
        part_hashes: hashes of what it came from.
        provenance_hash: the hash of these hashes.
    """
    rows = "reasoning traces"
    if facts.rows.count:
        rows = f"{facts.rows.count:,} reasoning traces"
    about = f"{plain(facts.base.display_name)}, fine-tuned on {rows} of {sections.teachers(facts)}"
    if facts.role == "grpo":
        about += ", then trained further with GRPO"
    if adapter:
        about = f"Adapters for {about}"
    sections_by_title = {
        "Results": _results(facts),
        "Use": _use(facts, location, adapter),
        "Data": sections.funnel(facts),
        "Training": _training(facts),
        "Limits": _limits(facts),
        "Licences": sections.licence_terms(facts, findings, base=True),
        "Provenance": sections.provenance(part_hashes, provenance_hash),
    }
    about += ". It thinks in a `<think>` block before it answers."
    return sections.page(name, about, findings, sections_by_title)


def _results(facts: Facts) -> str:
    if not facts.scores:
        return "It was not measured: there is no scores.json in its run."
    body = []
    for score in facts.scores:
        metrics = score.metrics
        majority = metrics.get(f"cons@{score.n}") if score.n > 1 else None
        body.append(
            (
                f"{plain(score.set)}: {_ROLES[score.role]}",
                f"{score.n}",
                _percent_text(metrics.get("pass@1")),
                _percent_text(majority),
                _percent_text(metrics.get("truncated"), interval=False),
                f"{metrics['tokens'].value:,.0f}" if "tokens" in metrics else "–",
            )
        )
    problems = {measured.set: measured.problems for measured in facts.measured_sets}
    known_sizes = [f"{plain(name)} {count:,}" for name, count in problems.items() if count is not None]
    problem_note = ""
    if known_sizes:
        problem_note = f" Problems: {', '.join(known_sizes)}."
    headings = ("set and model", "samples", "pass@1 %", "majority %", "cut %", "tokens")
    explanation = (
        "Percentages with 95 % intervals over problems (bootstrap). pass@1 is the mean over the samples of a problem;"
        " *majority* is the commonest answer of all its samples; *cut* replies ran out of tokens and count as wrong."
    )
    return f"{table(headings, body)}\n\n{explanation}{problem_note}{_settings(facts)}"


def _settings(facts: Facts) -> str:
    if not facts.sampling_is_measured:
        return ""
    sampling = facts.sampling
    settings = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, up to {sampling.max_tokens:,} tokens"
    return f" Measured at {settings} a reply."


def _percent_text(metric: Metric | None, interval: bool = True) -> str:
    if metric is None:
        return "–"
    value = f"{100 * metric.value:.1f}"
    if not interval or metric.low is None or metric.high is None:
        return value
    return f"{value} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def _use(facts: Facts, location: str, adapter: bool) -> str:
    sampling = facts.sampling
    lines = [
        f"Sample at temperature {sampling.temperature:g} and top-p {sampling.top_p:g}, and leave room for"
        f" {sampling.max_tokens:,} tokens: a reply that is cut while it thinks has no answer."
    ]
    prefill = _prefill(facts)
    if prefill:
        lines.append(
            f"Its chat template begins the reply with {code(prefill)}, so what comes back holds only the closing tag."
        )
    if prefill.strip() == "<think>":
        # vLLM's parser deepseek_r1 refuses vocabularies in which the tags are no tokens, as Qwen2.5's and Llama 3's
        lines.append("With `--reasoning-parser qwen3`, vLLM's chat API gives the thinking apart from the answer.")
    if adapter:
        base = shlex.quote(facts.base.display_name)
        lines.append("These are adapters; vLLM serves them beside their base:")
        command = f"vllm serve {base} --enable-lora --lora-modules student={shlex.quote(location)}"
    else:
        command = f"vllm serve {shlex.quote(location)}"
    lines.append(f"```sh\n{command}\n```")
    return "\n\n".join(lines)


def _prefill(facts: Facts) -> str:
    from distill.errors import InputError
    from distill.types import Message

    if not (facts.checkpoint / "tokenizer.json").is_file():
        return ""
    try:
        tokenizer = chat.Tokenizer(str(facts.checkpoint))
    except InputError:  # without a chat template there is nothing to say about it
        return ""
    return tokenizer.prompt((Message(role="user", content="?"),), reasoning.Tags()).prefill


def _training(facts: Facts) -> str:
    stage = facts.stages.get("sft") or {}
    settings = facts.recipe.get("sft") or {}
    setup = stage.get("setup") or {}
    if not stage:
        return "Nothing is recorded of the training."
    learnt = None
    if stage.get("loss_tokens"):
        learnt = f"{stage['loss_tokens']:,} of {stage['tokens']:,}"
    lora_rank = None
    if setup.get("method") in ("lora", "qlora"):
        lora_rank = (settings.get("lora") or {}).get("rank")
    rows: dict[str, object] = {
        "method": setup.get("method"),
        "rows": f"{stage['rows']:,}" if stage.get("rows") else None,
        "tokens learnt": learnt,
        "longest row, tokens": setup.get("max_length"),
        "rows a step": settings.get("batch_size"),
        "epochs": _number_text(facts.schedule.get("epochs") or settings.get("epochs")),
        "learning rate": _number_text(facts.schedule.get("learning_rate") or settings.get("learning_rate")),
        "schedule": settings.get("schedule"),
        "warm-up, share of the steps": settings.get("warmup"),
        "optimizer": setup.get("optimizer"),
        "LoRA rank": lora_rank,
        "steps": stage.get("steps"),
        "loss, first to last": _loss_text(stage),
        "processes": _processes_text(setup),
        "strategy": setup.get("strategy"),
        "wall time": duration(stage["train_seconds"]) if stage.get("train_seconds") else None,
        "seed": settings.get("seed"),
    }
    stop_trial = stage.get("stops") or {}
    if stop_trial:
        rows["replies that stop by themselves"] = f"{stop_trial['ended']} of {stop_trial['asked']} tried"
    body = [(name, plain(value)) for name, value in rows.items() if value is not None]
    description = f"{table(('setting', 'value'), body, 'l')}\n\nVersions: {sections.versions(facts)}."
    if facts.role == "grpo":
        description += f"\n\nThen GRPO:\n\n{_grpo_table(facts)}"
    return description


def _grpo_table(facts: Facts) -> str:
    """The settings that its recipe gave, and what the stage told of itself, as far as they are plain values."""
    settings = facts.recipe.get("grpo") or {}
    stage = facts.stages.get("grpo") or {}
    plain_values = {
        name: value for name, value in [*settings.items(), *stage.items()] if isinstance(value, str | int | float)
    }
    return table(("setting", "value"), [(plain(name), plain(value)) for name, value in plain_values.items()], "l")


def _loss_text(stage: Mapping[str, object]) -> str | None:
    first = stage.get("first_loss")
    last = stage.get("last_loss")
    if first is None or last is None:
        return None
    return f"{first:.3f} to {last:.3f}"


def _number_text(value: object) -> str | None:
    return f"{value:g}" if isinstance(value, int | float) else None


def _processes_text(setup: Mapping[str, object]) -> str | None:
    if not setup:
        return None
    kind = "CPU" if setup.get("cpu") else "GPU"
    return f"{setup.get('processes')} ({kind}) on {setup.get('nodes')} node(s)"


def _limits(facts: Facts) -> str:
    lines = [
        "It learnt from traces whose final answers were checked, not their steps: its reasoning can be wrong where its"
        " answer is right, and the other way round.",
        f"It learnt on {sections.counts_text(facts.rows.sets, 5) or 'an unrecorded set'}; what it does elsewhere was"
        " not measured unless the results name it.",
        "No safety training was done after the base's own; what the base and the teacher get wrong may return.",
    ]
    for score in _student_scores(facts):
        truncated = score.metrics.get("truncated")
        if truncated and truncated.value >= 0.05:
            lines.append(f"On {plain(score.set)}, {100 * truncated.value:.0f} % of its replies did not end.")
    if not facts.scores:
        lines.append("It was not measured.")
    return "\n".join(f"- {line}" for line in lines)


def _student_scores(facts: Facts) -> list[Score]:
    return [score for score in facts.scores if score.role == (facts.role or "sft")]
