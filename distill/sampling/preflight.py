"""Before anything is spent: does the engine sample what we think it does? One or two tiny requests tell.

That the right model is served, with enough context, is checked when a backend opens.
"""

from __future__ import annotations

import re
from typing import Literal

from distill.backends import Backend, Completion, Model, Refused, Request
from distill.errors import BackendError
from distill.models.chat import Prompt, Tokenizer
from distill.types import Message, Problem, Record, Sampling

_PROBE = 16  # tokens, of which a reasoner has its first words
_WHOLE = 2048  # tokens, in which a reasoner has greeted somebody
_SLOW = 25.0  # tokens per second of one request on a loaded engine
_TAG = re.compile(r"<[^<>\s]*think[^<>\s]*>$", re.IGNORECASE)
_PARSER = "`--reasoning-parser` (`qwen3` reads any <think> … </think>, `deepseek_r1` only where each is one token)"
_CLOSE = {"temperature": 0.1, "top_p": 0.02, "top_k": 0.0}
"""How far from the advice is still following it: DeepSeek-R1's own is a temperature of 0.5 to 0.7."""


class Finding(Record):
    severity: Literal["error", "warning"]
    """An error would spoil every trace."""
    what: str
    fix: str


async def preflight(
    backend: Backend,
    model: Model,
    sampling: Sampling,
    tokenizer: Tokenizer,
    problem: Problem,
    *,
    system_prompt: bool | None = None,
) -> list[Finding]:
    """All that looks wrong, errors first; nothing if all is well.

    Args:
        backend: opened.
        sampling: of the run; `max_tokens` is the whole budget of a trace.
        problem: any of those to be sampled.
        system_prompt: False if the model's authors advise against one.
    """
    takes_ids = bool(getattr(backend, "takes_ids", True))
    prompt = tokenizer.prompt(problem.messages, model.tags, problem.tools)
    found = [*_advice(model, sampling, problem, system_prompt), *_room(backend, model, sampling, prompt)]
    if takes_ids:
        found += _rendering(model, tokenizer, prompt)
    request = Request(
        id="preflight",
        ids=prompt.ids,
        messages=problem.messages,
        tools=problem.tools,
        sampling=sampling.model_copy(update={"max_tokens": _PROBE}),
        seed=0,
    )
    try:
        done = await backend.complete(request)
        found += _ending(done)
        if takes_ids:
            found += [*_opening(model, prompt, done), *_tokens(tokenizer, done)]
        else:
            found += [*_added(prompt, done), *await _reasoning(backend, model, request, done)]
    except Refused as refused:
        fix = "the engine says what it does not like; see the backend's and the sampling's settings"
        found.append(Finding(severity="error", what=f"the engine refuses a first problem: it {refused}", fix=fix))
    except BackendError as error:
        found.append(Finding(severity="error", what=error.what, fix=error.fix or "look at the engine's log"))
    return sorted(found, key=lambda finding: finding.severity)


def _advice(model: Model, sampling: Sampling, problem: Problem, system_prompt: bool | None) -> list[Finding]:
    found = []
    for name, near in _CLOSE.items():
        asked, advised = getattr(sampling, name), getattr(model.sampling, name)
        if name == "temperature" and asked == 0:
            what = "greedy decoding: reasoning models fall into loops, and all samples of a problem are the same"
            found.append(_warning(what, f"sampling.temperature: {advised or 0.6:g}"))
        elif asked != advised and (asked is None or advised is None or abs(asked - advised) > near + 1e-9):
            what = f"{name} is {_told(asked)}, and {_told(advised)} is advised for {model.name}"
            found.append(_warning(what, f"sampling.{name}: {'null' if advised is None else f'{advised:g}'}"))
    if system_prompt is False and any(message.role == "system" for message in problem.messages):
        what = f"the problems have a system prompt, and the authors of {model.name} advise to use none"
        found.append(_warning(what, "move what it says into the user's turn"))
    return found


def _room(backend: Backend, model: Model, sampling: Sampling, prompt: Prompt) -> list[Finding]:
    found = []
    room = model.context - len(prompt.ids)
    if sampling.max_tokens > room:
        what = f"a budget of {sampling.max_tokens:,} tokens, of which {room:,} have room behind a prompt of "
        what += f"{len(prompt.ids):,} in a context of {model.context:,}: the rest is never reached"
        found.append(_warning(what, f"sampling.max_tokens: {max(1, room)}, or a longer `context` in the preset"))
    timeout = getattr(backend, "timeout", None)
    needed = min(sampling.max_tokens, max(room, 1)) / _SLOW
    if timeout is not None and timeout < needed:
        what = f"a reply counts as lost after {timeout:g} s, and the budget takes {needed:,.0f} s at {_SLOW:g} tokens/s"
        fix = f"backend.timeout: {2 * needed:.0f}, or a smaller budget"
        found.append(Finding(severity="error", what=what, fix=fix))
    return found


def _rendering(model: Model, tokenizer: Tokenizer, prompt: Prompt) -> list[Finding]:
    """What the prompt itself shows."""
    found = []
    end, tags = prompt.text.rstrip(), model.tags
    if end.endswith(tags.close):
        what = f"the template closes the reasoning before it began (it ends in {tags.close}): thinking is switched off"
        found.append(Finding(severity="error", what=what, fix="another `template` in the preset"))
    elif not prompt.prefill and (other := _TAG.search(end)):
        what = f"the template opens the reasoning with {other[0]}, and the preset says {tags.open}"
        found.append(
            Finding(severity="error", what=what, fix="name both tags in the preset: `think: {open: …, close: …}`")
        )
    begin = tokenizer.encode(tokenizer.special("bos_token"))
    if len(begin) == 1 and prompt.ids[:2] == (begin[0], begin[0]):
        what = f"the prompt begins with {tokenizer.special('bos_token')} twice, which the model never saw"
        found.append(Finding(severity="error", what=what, fix="another `template` in the preset, that writes it once"))
    return found


def _ending(done: Completion) -> list[Finding]:
    if done.finish == "length":
        return []
    what = (
        f"a reply of {_PROBE} tokens was asked for, and the model ended it by itself ({done.finish}): {done.text!r:.80}"
    )
    return [_warning(what, "does the template suit the model, and is its EOS the right one?")]


def _opening(model: Model, prompt: Prompt, done: Completion) -> list[Finding]:
    opened, tag = done.text.lstrip().startswith(model.tags.open), model.tags.open
    if prompt.prefill and opened:
        what = f"the template opens {tag} in the prompt, and the model opens it again"
        return [Finding(severity="error", what=what, fix="a `template` in the preset that does not open it")]
    if not prompt.prefill and not opened and done.text:
        what = f"neither the template nor the model opens {tag}: {done.text!r:.60}"
        return [_warning(what, f"a `template` in the preset that ends in {tag}, or its real tags: `think: …`")]
    return []


def _tokens(tokenizer: Tokenizer, done: Completion) -> list[Finding]:
    """Whether the engine's ids mean here what they mean there."""
    if done.ids is None:
        what = "the engine gives no token ids: cut traces cannot be continued, and none can be checked token by token"
        return [_warning(what, "a vLLM that knows `return_token_ids`")]
    here, there = (text.rstrip("\ufffd").lstrip() for text in (tokenizer.decode(done.ids), done.text))
    if here == there:  # the last letter may be incomplete, and some tokenizers drop a space at the beginning
        return []
    what = f"the engine's tokenizer is another one: its ids mean {here!r:.60} here and {there!r:.60} there"
    fix = f"serve the tokenizer of {tokenizer.model}, or name the served model's revision in the preset"
    return [Finding(severity="error", what=what, fix=fix)]


def _added(prompt: Prompt, done: Completion) -> list[Finding]:
    if done.prompt_tokens is None or done.prompt_tokens - len(prompt.ids) < 32:
        return []
    what = (
        f"the API counts {done.prompt_tokens} prompt tokens, its template gives {len(prompt.ids)}: it adds some words"
    )
    return [_warning(what, "does it, or a gateway, put a system prompt of its own before the problems?")]


async def _reasoning(backend: Backend, model: Model, request: Request, done: Completion) -> list[Finding]:
    """Whether a chat API hands the reasoning over."""
    tags = model.tags
    if done.text.lstrip().startswith(tags.open):
        return []
    hello = (Message(role="user", content="Say hello."),)
    sampling = request.sampling.model_copy(update={"max_tokens": _WHOLE})
    if not done.reasoning_tokens:
        done = await backend.complete(request.model_copy(update={"messages": hello, "sampling": sampling}))
    if done.text.lstrip().startswith(tags.open):
        what = f"reasoning comes within the content, without {tags.open}: of a trace that is cut, it is lost"
        return [_warning(what, f"start the server with {_PARSER}")]
    hidden = (
        f"{done.reasoning_tokens} tokens of it are billed" if done.reasoning_tokens else "no field and no tag has it"
    )
    fix = f"a vLLM behind it needs {_PARSER}; others want to be asked for it, see the API's manual and "
    fix += "`backend.extra`; some never give it, and cannot be distilled"
    severity: Literal["error", "warning"] = "error" if done.finish == "stop" or done.reasoning_tokens else "warning"
    return [Finding(severity=severity, what=f"the reasoning is lost: {hidden}", fix=fix)]


def _warning(what: str, fix: str) -> Finding:
    return Finding(severity="warning", what=what, fix=fix)


def _told(value: float | None) -> str:
    return "unset" if value is None else f"{value:g}"
