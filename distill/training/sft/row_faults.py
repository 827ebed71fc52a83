"""What can be wrong with a row as it would be trained, with a tokenizer, and with a chat template.

Nothing here trusts the renderer: ids are decoded and compared with the trace they came from and with the prompt that
the student will see at inference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal
from unicodedata import normalize

from distill.errors import InputError, RunError
from distill.models.chat import Prompt, Tokenizer
from distill.models.presets import Student
from distill.models.reasoning import Tags, split
from distill.training.sft.renderer import IGNORED
from distill.types import Message, Record

FaultKind = Literal["reasoning", "think", "eos", "prompt", "mask", "text", "unknown", "history", "pad", "render"]
_TEMPLATE_FIX = "name a template that does in the student's preset, such as `template: think-chatml`"

_BYTES_FIX = "this tokenizer loses text: use a student whose vocabulary has all bytes"


class Fault(Record):
    """One thing that is wrong with a row, a template or a tokenizer."""

    kind: FaultKind
    description: str
    fix: str


def raise_faults(faults: Sequence[Fault], where: str) -> None:
    """Stop where anything is wrong.

    Raises:
        RunError: there are faults; names them all.
    """
    if faults:
        remedies = "; ".join(dict.fromkeys(fault.fix for fault in faults))
        raise RunError("; ".join(fault.description for fault in faults), where=where, fix=remedies)


def of_row(
    tokenizer: Tokenizer, tags: Tags, eos: str, messages: Sequence[Message], ids: Sequence[int], labels: Sequence[int]
) -> list[Fault]:
    """All that is wrong with a row as it would be trained, whoever rendered it.

    Args:
        messages: the trace, ending in the assistant's turn.
        labels: equal to `ids` where loss is taken, -100 elsewhere.
    """
    prompt = tokenizer.prompt(messages[:-1], tags)
    content = messages[-1].content
    start = next((index for index, label in enumerate(labels) if label != IGNORED), len(labels))
    learnt = text_of(tokenizer, ids[start:])
    turn = _turn_text(tokenizer, prompt, ids, eos)
    matches = turn is not None and _same_text(_turn_body(turn, tags), _turn_body(content, tags))
    faults = []
    spans = split(content, "", tags)
    reasoning = content[slice(*spans.reasoning)].strip() if spans.reasoning else ""
    whole_reply = matches and start <= len(prompt.ids)  # then all of the reply is in the loss
    if not whole_reply and reasoning not in learnt and _canonical(reasoning) not in _canonical(learnt):
        description = (
            f"the reasoning is not learnt: of its {len(reasoning):,} characters the loss sees {len(learnt):,} others"
        )
        faults.append(Fault(kind="reasoning", description=description, fix=f"a template cut it out; {_TEMPLATE_FIX}"))
    visible_turn = learnt if turn is None else turn
    if description := _think_fault(content, visible_turn, learnt, tags, closed=spans.answer is not None):
        fix = "the template's prefill and the traces must fit: one block each"
        faults.append(Fault(kind="think", description=description, fix=fix))
    faults += _eos_faults(tokenizer, eos, ids, labels)
    faults += _mask_faults(tokenizer, prompt, ids, labels, start)
    if not faults and not matches:
        faults.append(_text_fault("reply", _turn_body(turn or learnt, tags), _turn_body(content, tags)))
    prompt_text = text_of(tokenizer, prompt.ids)
    if not _same_text(prompt_text, prompt.text):
        faults.append(_text_fault("prompt", prompt_text, prompt.text))
    unknown = getattr(tokenizer.fast.model, "unk_token", None)
    if unknown and tokenizer.fast.token_to_id(unknown) in ids and unknown not in prompt.text + content:
        description = f"{unknown} stands for text that the vocabulary lacks"
        faults.append(Fault(kind="unknown", description=description, fix=_BYTES_FIX))
    return faults


def _text_fault(part: str, decoded: str, text: str) -> Fault:
    index = _first_difference(decoded, text, len(text))
    nearby = slice(max(0, index - 12), index + 20)
    description = f"the tokens of the {part} read {decoded[nearby]!r} where the text says {text[nearby]!r}"
    return Fault(kind="text", description=description, fix=_BYTES_FIX)


def _first_difference(first: Sequence[object], second: Sequence[object], default: int) -> int:
    """The first index at which two sequences differ; `default` where the shorter begins the longer."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (first_item, second_item) in pairs if first_item != second_item), default)


def _turn_text(tokenizer: Tokenizer, prompt: Prompt, ids: Sequence[int], eos: str) -> str | None:
    """The assistant's turn as the model reads it, what was prefilled included; None when another prompt precedes it."""
    text = text_of(tokenizer, ids)
    head = prompt.text.removesuffix(prompt.prefill)
    if not text.startswith(head):
        text = _canonical(text)
        head = _canonical(head)
    if not text.startswith(head):
        return None
    return text[len(head) :].rstrip().removesuffix(eos)


def _turn_body(turn: str, tags: Tags) -> str:
    """A turn without its opening tag; blanks around that are the template's."""
    return turn.lstrip().removeprefix(tags.open).strip()


def _think_fault(content: str, turn: str, learnt: str, tags: Tags, *, closed: bool) -> str:
    """What is wrong with the think tags of a turn; empty when nothing is."""
    has_opening = content.lstrip().startswith(tags.open)
    if has_opening and not turn.lstrip().startswith(tags.open):
        return f"the opening {tags.open} is lost"
    if has_opening and closed and tags.close not in learnt:
        return f"the closing {tags.close} is not learnt"
    if _turn_body(turn, tags).startswith(tags.open):
        return f"{tags.open} stands twice: the prompt holds one and the reply begins with another"
    return ""


def _eos_faults(tokenizer: Tokenizer, eos: str, ids: Sequence[int], labels: Sequence[int]) -> Iterator[Fault]:
    eos_id = tokenizer.fast.token_to_id(eos)
    learnt_eos = sum(label == eos_id for label in labels)
    if not ids or ids[-1] != eos_id:
        description = f"the row ends in {text_of(tokenizer, ids[-1:])!r}, not in {eos}: the student would not stop"
    elif labels[-1] != eos_id:
        description = (
            f"the {eos} at its end is not learnt: padding that is masked by its id takes EOS along where they are one"
        )
    elif learnt_eos > 1:
        description = f"{eos} is learnt {learnt_eos} times: the student would stop in the middle"
    else:
        return
    fix = "name in the preset the `eos` that ends turns, and another token as `pad`"
    yield Fault(kind="eos", description=description, fix=fix)


def _mask_faults(
    tokenizer: Tokenizer, prompt: Prompt, ids: Sequence[int], labels: Sequence[int], start: int
) -> Iterator[Fault]:
    size = len(prompt.ids)
    if tuple(ids[:size]) != prompt.ids:
        index = _first_difference(ids, prompt.ids, len(ids))
        trained = text_of(tokenizer, ids[index : index + 8])
        expected = text_of(tokenizer, prompt.ids[index : index + 8])
        description = (
            f"the training prompt is not that of inference: from token {index} it reads {trained!r}, not {expected!r}"
        )
        fix = "render the prompt with the template that the student is saved with"
        yield Fault(kind="prompt", description=description, fix=fix)
    elif start != size:
        description = f"the loss begins at token {start}, the reply at token {size}"
        yield Fault(kind="mask", description=description, fix="take the loss of the whole reply and of nothing else")
    elif mislabelled := [index for index in range(start, len(ids)) if labels[index] != ids[index]]:
        description = f"{len(mislabelled)} tokens of the reply have another label, the first at {mislabelled[0]}"
        yield Fault(kind="mask", description=description, fix="take the loss of the whole reply and of nothing else")


def of_tokenizer(tokenizer: Tokenizer, student: Student) -> list[Fault]:
    """All that is wrong with a tokenizer, whatever the template."""
    faults = []
    added = {token.content: token for token in tokenizer.fast.get_added_tokens_decoder().values()}
    for tag in (student.think.open, student.think.close):
        if tag in added and added[tag].special:
            description = (
                f"{tag} is a special token: decoders drop it, so evaluation and rewards would never see the reply close"
            )
            fix = "register it as an ordinary added token (special: false)"
            faults.append(Fault(kind="think", description=description, fix=fix))
    if student.pad is not None and tokenizer.fast.token_to_id(student.pad) is None:
        description = f"its vocabulary has no token {student.pad!r} to pad with"
        faults.append(Fault(kind="pad", description=description, fix="name one that it has in the preset: `pad: …`"))
    return faults


def of_template(tokenizer: Tokenizer, tags: Tags, eos: str) -> list[Fault]:
    """All that a chat template does wrong to two turns with reasoning.

    `Tokenizer(model, template=…)` takes any template.
    """
    from jinja2 import TemplateError

    ask, ask_again = (Message(role="user", content=text) for text in ("What is 6 times 7?", "And 6 times 8?"))
    thoughts = ("Six sevens are 42.", "Six more than before.")
    answers = ("It is 42.", "It is 48.")
    reply, reply_again = (
        Message(role="assistant", content=f"{tags.open}\n{thought}\n{tags.close}\n\n{answer}")
        for thought, answer in zip(thoughts, answers, strict=True)
    )
    try:
        opening = tokenizer.apply([ask], generation_prompt=True)
        first_chat = tokenizer.apply([ask, reply], generation_prompt=False)
        second_opening = tokenizer.apply([ask, reply, ask_again], generation_prompt=True)
        second_chat = tokenizer.apply([ask, reply, ask_again, reply_again], generation_prompt=False)
    except (TemplateError, InputError) as error:
        cause = error.message if isinstance(error, InputError) else error
        fix = "name another `template:` in the student's preset"
        return [Fault(kind="render", description=f"cannot render a chat: {cause}", fix=fix)]
    head = opening.removesuffix(tokenizer.prompt([ask], tags).prefill)
    turn = first_chat.removeprefix(head)  # what the system's turn says of tags is no concern
    opening_tags = turn.count(tags.open)
    closing_tags = turn.count(tags.close)
    findings: list[tuple[FaultKind, str]] = []
    if thoughts[0] not in turn or thoughts[1] not in second_chat:
        findings.append(("reasoning", "drops the newest turn's reasoning, which must be kept"))
    elif opening_tags != 1 or closing_tags != 1:
        description = f"renders one think block as {opening_tags} × {tags.open} and {closing_tags} × {tags.close}"
        findings.append(("think", description))
    if tags.close in opening.rpartition(ask.content)[2]:
        findings.append(("think", "its generation prompt closes the reasoning before it began"))
    if not first_chat.startswith(opening) or not second_chat.startswith(second_opening):
        findings.append(("prompt", "its generation prompt is not how a rendered turn begins: training and use differ"))
    if not first_chat.rstrip().endswith(answers[0] + eos):
        findings.append(("eos", f"ends a turn in {first_chat[-24:]!r}, not in {eos}: generation would not stop there"))
    if thoughts[0] in second_opening or thoughts[0] in second_chat:
        findings.append(("history", "keeps the reasoning of earlier turns, which must be dropped"))
    elif answers[0] not in second_opening:
        findings.append(("history", "drops the answers of earlier turns, which must be kept"))
    return [Fault(kind=kind, description=description, fix=_TEMPLATE_FIX) for kind, description in findings]


def text_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text that ids stand for, special tokens included."""
    return str(tokenizer.fast.decode(list(ids), skip_special_tokens=False))


def _canonical(text: str) -> str:
    """A text in NFC: tokenizers may compose characters (Qwen's do), and another composition is no loss."""
    return normalize("NFC", text)


def _same_text(first: str, second: str) -> bool:
    return first == second or _canonical(first) == _canonical(second)
