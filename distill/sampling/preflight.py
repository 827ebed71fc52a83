"""Before anything is spent: does the engine sample what we think it does? One or two tiny requests tell.

That the right model is served, with enough context, is checked when a backend opens.
"""

from __future__ import annotations

import re
from typing import Literal

from distill.backends import Backend
from distill.errors import BackendError, InputError
from distill.models.chat import Prompt, Tokenizer
from distill.models.model import Model
from distill.models.request import Completion, Refused, Request
from distill.progress import LOG
from distill.sampling.plan import SamplingJob
from distill.types import Message, Problem, Record, Sampling

_PROBE_TOKENS = 16  # tokens, of which a reasoner has its first words
_GREETING_TOKENS = 2048  # tokens, in which a reasoner has greeted somebody
_SLOW_RATE = 25.0  # tokens per second of one request on a loaded engine
_THINK_TAG = re.compile(r"<[^<>\s]*think[^<>\s]*>$", re.IGNORECASE)
_PARSER = "`--reasoning-parser` (`qwen3` reads any <think> … </think>, `deepseek_r1` only where each is one token)"
_TOLERANCES = {"temperature": 0.1, "top_p": 0.02, "top_k": 0.0}
"""How far from the advice is still following it: DeepSeek-R1's own is a temperature of 0.5 to 0.7."""


class PreflightFinding(Record):
    severity: Literal["error", "warning"]
    """An error would spoil every trace."""
    message: str
    fix: str


async def preflight(
    backend: Backend,
    model: Model,
    sampling: Sampling,
    tokenizer: Tokenizer,
    problem: Problem,
    *,
    system_prompt: bool | None = None,
) -> list[PreflightFinding]:
    """Sample a few tokens and list all that looks wrong, errors first; nothing if all is well.

    Args:
        backend: opened.
        sampling: of the run; `max_tokens` is the whole budget of a trace.
        problem: any of those to be sampled.
        system_prompt: False if the model's authors advise against one.
    """
    prompt = tokenizer.prompt(problem.messages, model.tags, problem.tools)
    findings = [
        *_against_advice(model, sampling, problem, system_prompt),
        *_budget_and_timeout(backend, model, sampling, prompt),
    ]
    if backend.takes_ids:
        findings += _rendered_prompt(model, tokenizer, prompt)
    request = Request(
        id="preflight",
        ids=prompt.ids,
        messages=problem.messages,
        tools=problem.tools,
        sampling=sampling.model_copy(update={"max_tokens": _PROBE_TOKENS}),
        seed=0,
    )
    try:
        reply = await backend.complete(request)
        findings += _early_end(reply)
        if backend.takes_ids:
            findings += [*_think_tag(model, prompt, reply), *_token_ids(tokenizer, reply)]
        else:
            findings += [*_added_prompt(prompt, reply), *await _lost_reasoning(backend, model, request, reply)]
    except Refused as refused:
        fix = "the engine says what it does not like; see the backend's and the sampling's settings"
        findings.append(_error(f"the engine refuses a first problem: it {refused}", fix))
    except BackendError as error:
        findings.append(_error(error.message, error.fix or "look at the engine's log"))
    return sorted(findings, key=lambda finding: finding.severity)


async def refuse_misfit(backend: Backend, job: SamplingJob, tokenizer: Tokenizer, problem: Problem) -> None:
    """Log what looks wrong with an engine, and refuse one that would spoil every trace.

    Raises:
        InputError: the engine does not sample what it is thought to; says each fix.
    """
    sampling = job.sampling.model_copy(update={"max_tokens": job.token_budgets[-1]})
    findings = await preflight(backend, job.model, sampling, tokenizer, problem, system_prompt=job.system_prompt)
    for finding in findings:
        LOG.warning("preflight: %s\n  → %s", finding.message, finding.fix)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise InputError(
            f"preflight: {'; '.join(finding.message for finding in errors)}",
            fix="; ".join(finding.fix for finding in errors) + " (or --set generate.preflight=false)",
        )


def _against_advice(
    model: Model, sampling: Sampling, problem: Problem, system_prompt: bool | None
) -> list[PreflightFinding]:
    findings = []
    for name, tolerance in _TOLERANCES.items():
        value = getattr(sampling, name)
        advised = getattr(model.sampling, name)
        if name == "temperature" and value == 0:
            message = "greedy decoding: reasoning models fall into loops, and all samples of a problem are the same"
            findings.append(_warning(message, f"sampling.temperature: {advised or 0.6:g}"))
        elif value != advised and (value is None or advised is None or abs(value - advised) > tolerance + 1e-9):
            message = f"{name} is {_in_words(value)}, and {_in_words(advised)} is advised for {model.name}"
            findings.append(_warning(message, f"sampling.{name}: {'null' if advised is None else f'{advised:g}'}"))
    if system_prompt is False and any(turn.role == "system" for turn in problem.messages):
        message = f"the problems have a system prompt, and the authors of {model.name} advise to use none"
        findings.append(_warning(message, "move what it says into the user's turn"))
    return findings


def _budget_and_timeout(backend: Backend, model: Model, sampling: Sampling, prompt: Prompt) -> list[PreflightFinding]:
    findings = []
    room = model.context - len(prompt.ids)
    if sampling.max_tokens > room:
        message = f"a budget of {sampling.max_tokens:,} tokens, of which {room:,} have room behind a prompt of "
        message += f"{len(prompt.ids):,} in a context of {model.context:,}: the rest is never reached"
        findings.append(_warning(message, f"sampling.max_tokens: {max(1, room)}, or a longer `context` in the preset"))
    timeout = backend.timeout
    needed_s = min(sampling.max_tokens, max(room, 1)) / _SLOW_RATE
    if timeout is not None and timeout < needed_s:
        message = f"a reply counts as lost after {timeout:g} s, and the budget takes {needed_s:,.0f} s "
        message += f"at {_SLOW_RATE:g} tokens/s"
        fix = f"backend.timeout: {2 * needed_s:.0f}, or a smaller budget"
        findings.append(_error(message, fix))
    return findings


def _rendered_prompt(model: Model, tokenizer: Tokenizer, prompt: Prompt) -> list[PreflightFinding]:
    """Errors that the rendered prompt itself shows."""
    findings = []
    end = prompt.text.rstrip()
    tags = model.tags
    if end.endswith(tags.close):
        message = (
            f"the template closes the reasoning before it began (it ends in {tags.close}): thinking is switched off"
        )
        findings.append(_error(message, "another `template` in the preset"))
    elif not prompt.prefill and (foreign_tag := _THINK_TAG.search(end)):
        message = f"the template opens the reasoning with {foreign_tag[0]}, and the preset says {tags.open}"
        findings.append(_error(message, "name both tags in the preset: `think: {open: …, close: …}`"))
    bos = tokenizer.encode(tokenizer.special("bos_token"))
    if len(bos) == 1 and prompt.ids[:2] == (bos[0], bos[0]):
        message = f"the prompt begins with {tokenizer.special('bos_token')} twice, which the model never saw"
        findings.append(_error(message, "another `template` in the preset, that writes it once"))
    return findings


def _early_end(reply: Completion) -> list[PreflightFinding]:
    if reply.finish == "length":
        return []
    message = f"a reply of {_PROBE_TOKENS} tokens was asked for, and the model ended it by itself ({reply.finish}): "
    message += f"{reply.text!r:.80}"
    return [_warning(message, "does the template suit the model, and is its EOS the right one?")]


def _think_tag(model: Model, prompt: Prompt, reply: Completion) -> list[PreflightFinding]:
    tag = model.tags.open
    opened = reply.text.lstrip().startswith(tag)
    if prompt.prefill and opened:
        message = f"the template opens {tag} in the prompt, and the model opens it again"
        return [_error(message, "a `template` in the preset that does not open it")]
    if not prompt.prefill and not opened and reply.text:
        message = f"neither the template nor the model opens {tag}: {reply.text!r:.60}"
        return [_warning(message, f"a `template` in the preset that ends in {tag}, or its real tags: `think: …`")]
    return []


def _token_ids(tokenizer: Tokenizer, reply: Completion) -> list[PreflightFinding]:
    """Whether the engine's ids mean here what they mean there."""
    if reply.ids is None:
        message = (
            "the engine gives no token ids: cut traces cannot be continued, and none can be checked token by token"
        )
        return [_warning(message, "a vLLM that knows `return_token_ids`")]
    ours = tokenizer.decode(reply.ids).rstrip("\ufffd").lstrip()
    theirs = reply.text.rstrip("\ufffd").lstrip()
    if ours == theirs:  # the last letter may be incomplete, and some tokenizers drop a space at the beginning
        return []
    message = f"the engine's tokenizer is another one: its ids mean {ours!r:.60} here and {theirs!r:.60} there"
    fix = f"serve the tokenizer of {tokenizer.model}, or name the served model's revision in the preset"
    return [_error(message, fix)]


def _added_prompt(prompt: Prompt, reply: Completion) -> list[PreflightFinding]:
    if reply.prompt_tokens is None or reply.prompt_tokens - len(prompt.ids) < 32:
        return []
    message = (
        f"the API counts {reply.prompt_tokens} prompt tokens, its template gives {len(prompt.ids)}: it adds some words"
    )
    return [_warning(message, "does it, or a gateway, put a system prompt of its own before the problems?")]


async def _lost_reasoning(
    backend: Backend, model: Model, request: Request, reply: Completion
) -> list[PreflightFinding]:
    """Whether a chat API hands the reasoning over."""
    tags = model.tags
    if reply.text.lstrip().startswith(tags.open):
        return []
    hello = (Message(role="user", content="Say hello."),)
    sampling = request.sampling.model_copy(update={"max_tokens": _GREETING_TOKENS})
    if not reply.reasoning_tokens:
        reply = await backend.complete(request.model_copy(update={"messages": hello, "sampling": sampling}))
    if reply.text.lstrip().startswith(tags.open):
        message = f"reasoning comes within the content, without {tags.open}: of a trace that is cut, it is lost"
        return [_warning(message, f"start the server with {_PARSER}")]
    evidence = "no field and no tag has it"
    if reply.reasoning_tokens:
        evidence = f"{reply.reasoning_tokens} tokens of it are billed"
    fix = f"a vLLM behind it needs {_PARSER}; others want to be asked for it, see the API's manual and "
    fix += "`backend.extra`; some never give it, and cannot be distilled"
    message = f"the reasoning is lost: {evidence}"
    if reply.finish == "stop" or reply.reasoning_tokens:
        return [_error(message, fix)]
    return [_warning(message, fix)]


def _error(message: str, fix: str) -> PreflightFinding:
    return PreflightFinding(severity="error", message=message, fix=fix)


def _warning(message: str, fix: str) -> PreflightFinding:
    return PreflightFinding(severity="warning", message=message, fix=fix)


def _in_words(value: float | None) -> str:
    return "unset" if value is None else f"{value:g}"
