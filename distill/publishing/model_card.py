"""README.md of a student: what it is, what it can do and with what certainty, how it was made, what binds its users."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from distill.models import chat
from distill.progress import duration
from distill.publishing import licences, sections
from distill.publishing.facts import Facts
from distill.publishing.licences import Finding
from distill.publishing.text import code, plain, table
from distill.types import Metric, Score

_ROLES = {"teacher": "teacher", "base": "base", "sft": "student", "grpo": "student after GRPO"}


def metadata(facts: Facts, findings: Sequence[Finding], *, adapter: bool) -> Any:
    """The card's front matter, a `ModelCardData`."""
    from huggingface_hub import ModelCardData

    licence, licence_name = licences.of_card(facts.base.licence, findings)
    return ModelCardData(
        language=sections.languages(facts),
        license=licence,
        license_name=licence_name,
        license_link="LICENSE.md" if licence_name else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        base_model=facts.base.hub,
        base_model_relation=("adapter" if adapter else "finetune") if facts.base.hub else None,
        tags=["reasoning", "distillation", "distill", *(["trl"] if "trl" in facts.versions else [])],
    )


def text(
    facts: Facts,
    findings: Sequence[Finding],
    name: str,
    where: str,
    parts: Mapping[str, str | None],
    whole: str,
    *,
    adapter: bool,
) -> str:
    """The card's body.

    Args:
        name: what it is called; where: what loads it, a Hub id or a folder.
        parts, whole: hashes of what it came from, and their hash.
    """
    rows = f"{facts.rows.count:,} reasoning traces" if facts.rows.count else "reasoning traces"
    about = f"{plain(facts.base.shown)}, fine-tuned on {rows} of {sections.teachers(facts)}"
    if facts.role == "grpo":
        about += ", then trained further with GRPO"
    if adapter:
        about = f"Adapters for {about}"
    found = {
        "Results": _results(facts),
        "Use": _use(facts, where, adapter),
        "Data": sections.funnel(facts),
        "Training": _training(facts),
        "Limits": _limits(facts),
        "Licences": sections.terms(facts, findings, base=True),
        "Provenance": sections.provenance(parts, whole),
    }
    return sections.page(name, f"{about}. It thinks in a `<think>` block before it answers.", findings, found)


def _results(facts: Facts) -> str:
    if not facts.scores:
        return "It was not measured: there is no scores.json in its run."
    body = []
    for score in facts.scores:
        metrics = score.metrics
        most = f"cons@{score.n}"
        body.append(
            (
                f"{plain(score.set)}: {_ROLES[score.role]}",
                f"{score.n}",
                _percent(metrics.get("pass@1")),
                _percent(metrics.get(most) if score.n > 1 else None),
                _percent(metrics.get("truncated"), interval=False),
                f"{metrics['tokens'].value:,.0f}" if "tokens" in metrics else "–",
            )
        )
    problems = {str(one.get("set")): one.get("problems") for one in facts.report.get("sets", ())}
    known = [f"{plain(name)} {count:,}" for name, count in problems.items() if isinstance(count, int)]
    size = f" Problems: {', '.join(known)}." if known else ""
    headings = ("set and model", "samples", "pass@1 %", "majority %", "cut %", "tokens")
    told = (
        "Percentages with 95 % intervals over problems (bootstrap). pass@1 is the mean over the samples of a problem;"
        " *majority* is the commonest answer of all its samples; *cut* replies ran out of tokens and count as wrong."
    )
    return f"{table(headings, body)}\n\n{told}{size}{_settings(facts)}"


def _settings(facts: Facts) -> str:
    if not facts.measured:
        return ""
    s = facts.sampling
    return f" Measured at temperature {s.temperature:g}, top-p {s.top_p:g}, up to {s.max_tokens:,} tokens a reply."


def _percent(metric: Metric | None, interval: bool = True) -> str:
    if metric is None:
        return "–"
    value = f"{100 * metric.value:.1f}"
    if not interval or metric.low is None or metric.high is None:
        return value
    return f"{value} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def _use(facts: Facts, where: str, adapter: bool) -> str:
    s = facts.sampling
    lines = [
        f"Sample at temperature {s.temperature:g} and top-p {s.top_p:g}, and leave room for {s.max_tokens:,} tokens: a"
        " reply that is cut while it thinks has no answer."
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
        base = shlex.quote(facts.base.shown)
        lines.append("These are adapters; vLLM serves them beside their base:")
        command = f"vllm serve {base} --enable-lora --lora-modules student={shlex.quote(where)}"
    else:
        command = f"vllm serve {shlex.quote(where)}"
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
    return tokenizer.prompt((Message(role="user", content="?"),), chat.Tags()).prefill


def _training(facts: Facts) -> str:
    done = facts.stages.get("sft") or {}
    asked = facts.recipe.get("sft") or {}
    setup = done.get("setup") or {}
    if not done:
        return "Nothing is recorded of the training."
    rows: dict[str, Any] = {
        "method": setup.get("method"),
        "rows": f"{done['rows']:,}" if done.get("rows") else None,
        "tokens learnt": f"{done['loss_tokens']:,} of {done['tokens']:,}" if done.get("loss_tokens") else None,
        "longest row, tokens": setup.get("max_length"),
        "rows a step": asked.get("batch_size"),
        "epochs": _number(facts.schedule.get("epochs") or asked.get("epochs")),
        "learning rate": _number(facts.schedule.get("learning_rate") or asked.get("learning_rate")),
        "schedule": asked.get("schedule"),
        "warm-up, share of the steps": asked.get("warmup"),
        "optimizer": setup.get("optimizer"),
        "LoRA rank": (asked.get("lora") or {}).get("rank") if setup.get("method") in ("lora", "qlora") else None,
        "steps": done.get("steps"),
        "loss, first to last": _losses(done),
        "processes": _processes(setup),
        "strategy": setup.get("strategy"),
        "wall time": duration(done["train_seconds"]) if done.get("train_seconds") else None,
        "seed": asked.get("seed"),
    }
    stops = done.get("stops") or {}
    if stops:
        rows["replies that stop by themselves"] = f"{stops['ended']} of {stops['asked']} tried"
    body = [(name, plain(value)) for name, value in rows.items() if value is not None]
    told = f"{table(('setting', 'value'), body, 'l')}\n\nVersions: {sections.versions(facts)}."
    if facts.role == "grpo":
        told += f"\n\nThen GRPO:\n\n{_grpo(facts)}"
    return told


def _grpo(facts: Facts) -> str:
    """The settings that its recipe gave, and what the stage told of itself, as far as they are plain values."""
    asked, done = facts.recipe.get("grpo") or {}, facts.stages.get("grpo") or {}
    plainly = {n: v for told in (asked, done) for n, v in told.items() if isinstance(v, str | int | float)}
    return table(("setting", "value"), [(plain(name), plain(value)) for name, value in plainly.items()], "l")


def _losses(done: Mapping[str, Any]) -> str | None:
    first, last = done.get("first_loss"), done.get("last_loss")
    return None if first is None or last is None else f"{first:.3f} to {last:.3f}"


def _number(value: Any) -> str | None:
    return f"{value:g}" if isinstance(value, int | float) else None


def _processes(setup: Mapping[str, Any]) -> str | None:
    if not setup:
        return None
    kind = "CPU" if setup.get("cpu") else "GPU"
    return f"{setup.get('processes')} ({kind}) on {setup.get('nodes')} node(s)"


def _limits(facts: Facts) -> str:
    lines = [
        "It learnt from traces whose final answers were checked, not their steps: its reasoning can be wrong where its"
        " answer is right, and the other way round.",
        f"It learnt on {sections.counted(facts.rows.sets, 5) or 'an unrecorded set'}; what it does elsewhere was not"
        " measured unless the results name it.",
        "No safety training was done after the base's own; what the base and the teacher get wrong may return.",
    ]
    cut = [s for s in _own(facts) if (found := s.metrics.get("truncated")) and found.value >= 0.05]
    lines += [f"On {plain(s.set)}, {100 * s.metrics['truncated'].value:.0f} % of its replies did not end." for s in cut]
    if not facts.scores:
        lines.append("It was not measured.")
    return "\n".join(f"- {line}" for line in lines)


def _own(facts: Facts) -> list[Score]:
    return [score for score in facts.scores if score.role == (facts.role or "sft")]
