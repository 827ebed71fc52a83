"""What can be wrong with a row as it would be trained, with a tokenizer, and with a chat template.

Nothing here trusts the renderer: ids are decoded and compared with the trace they came from and with the prompt that
the student will see at inference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal
from unicodedata import normalize

from distill.errors import InputError, RunError
from distill.models import chat
from distill.models.chat import Prompt, Tags, Tokenizer
from distill.models.presets import Student
from distill.training.sft.renderer import IGNORED
from distill.types import Message, Record

Check = Literal["reasoning", "think", "eos", "prompt", "mask", "text", "unknown", "history", "pad", "render"]
_TEMPLATE = "name a template that does in the student's preset, such as `template: think-chatml`"

_BYTES = "this tokenizer loses text: use a student whose vocabulary has all bytes"


class Fault(Record):
    """One thing that is wrong with a row, a template or a tokenizer."""

    check: Check
    what: str
    fix: str


def stop(found: Sequence[Fault], where: str) -> None:
    """
    Raises:
        RunError: there are faults; names them all.
    """
    if found:
        remedies = "; ".join(dict.fromkeys(fault.fix for fault in found))
        raise RunError("; ".join(fault.what for fault in found), where=where, fix=remedies)


def of_row(
    tokenizer: Tokenizer, tags: Tags, eos: str, messages: Sequence[Message], ids: Sequence[int], labels: Sequence[int]
) -> list[Fault]:
    """All that is wrong with a row as it would be trained, whoever rendered it.

    Args:
        messages: the trace, ending in the assistant's turn.
        labels: equal to `ids` where loss is taken, -100 elsewhere.
    """
    prompt, content = tokenizer.prompt(messages[:-1], tags), messages[-1].content
    start = next((at for at, label in enumerate(labels) if label != IGNORED), len(labels))
    learnt = text_of(tokenizer, ids[start:])
    turn = _turn(tokenizer, prompt, ids, eos)
    same = turn is not None and _same(_body(turn, tags), _body(content, tags))
    found = []
    split = chat.split(content, "", tags)
    reasoning = content[slice(*split.reasoning)].strip() if split.reasoning else ""
    whole = same and start <= len(prompt.ids)  # then all of the reply is in the loss
    if not whole and reasoning not in learnt and _canonical(reasoning) not in _canonical(learnt):
        what = f"the reasoning is not learnt: of its {len(reasoning):,} characters the loss sees {len(learnt):,} others"
        found.append(Fault(check="reasoning", what=what, fix=f"a template cut it out; {_TEMPLATE}"))
    if what := _think(content, turn if turn is not None else learnt, learnt, tags, closed=split.answer is not None):
        found.append(
            Fault(check="think", what=what, fix="the template's prefill and the traces must fit: one block each")
        )
    found += _eos(tokenizer, eos, ids, labels)
    found += _mask(tokenizer, prompt, ids, labels, start)
    if not found and not same:
        found.append(_text("reply", _body(turn or learnt, tags), _body(content, tags)))
    if not _same(asked := text_of(tokenizer, prompt.ids), prompt.text):
        found.append(_text("prompt", asked, prompt.text))
    unknown = getattr(tokenizer.fast.model, "unk_token", None)
    if unknown and tokenizer.fast.token_to_id(unknown) in ids and unknown not in prompt.text + content:
        found.append(Fault(check="unknown", what=f"{unknown} stands for text that the vocabulary lacks", fix=_BYTES))
    return found


def _text(part: str, tokens: str, text: str) -> Fault:
    at = next((at for at, (one, two) in enumerate(zip(tokens, text, strict=False)) if one != two), len(text))
    one, two = (repr(each[max(0, at - 12) : at + 20]) for each in (tokens, text))
    return Fault(check="text", what=f"the tokens of the {part} read {one} where the text says {two}", fix=_BYTES)


def _turn(tokenizer: Tokenizer, prompt: Prompt, ids: Sequence[int], eos: str) -> str | None:
    """The assistant's turn as the model reads it, what was prefilled included; None when another prompt precedes it."""
    text, head = text_of(tokenizer, ids), prompt.text.removesuffix(prompt.prefill)
    if not text.startswith(head):
        text, head = _canonical(text), _canonical(head)
    return text[len(head) :].rstrip().removesuffix(eos) if text.startswith(head) else None


def _body(turn: str, tags: Tags) -> str:
    """A turn without its opening tag; blanks around that are the template's."""
    return turn.lstrip().removeprefix(tags.open).strip()


def _think(content: str, turn: str, learnt: str, tags: Tags, *, closed: bool) -> str:
    opened = content.lstrip().startswith(tags.open)
    if opened and not turn.lstrip().startswith(tags.open):
        return f"the opening {tags.open} is lost"
    if opened and closed and tags.close not in learnt:
        return f"the closing {tags.close} is not learnt"
    if _body(turn, tags).startswith(tags.open):
        return f"{tags.open} stands twice: the prompt holds one and the reply begins with another"
    return ""


def _eos(tokenizer: Tokenizer, eos: str, ids: Sequence[int], labels: Sequence[int]) -> Iterator[Fault]:
    end = tokenizer.fast.token_to_id(eos)
    learnt = sum(label == end for label in labels)
    if not ids or ids[-1] != end:
        what = f"the row ends in {text_of(tokenizer, ids[-1:])!r}, not in {eos}: the student would not stop"
    elif labels[-1] != end:
        what = (
            f"the {eos} at its end is not learnt: padding that is masked by its id takes EOS along where they are one"
        )
    elif learnt > 1:
        what = f"{eos} is learnt {learnt} times: the student would stop in the middle"
    else:
        return
    yield Fault(check="eos", what=what, fix="name in the preset the `eos` that ends turns, and another token as `pad`")


def _mask(
    tokenizer: Tokenizer, prompt: Prompt, ids: Sequence[int], labels: Sequence[int], start: int
) -> Iterator[Fault]:
    size = len(prompt.ids)
    if tuple(ids[:size]) != prompt.ids:
        at = next((at for at, (one, two) in enumerate(zip(ids, prompt.ids, strict=False)) if one != two), len(ids))
        trained, asked = (text_of(tokenizer, each[at : at + 8]) for each in (ids, prompt.ids))
        what = f"the training prompt is not that of inference: from token {at} it reads {trained!r}, not {asked!r}"
        yield Fault(check="prompt", what=what, fix="render the prompt with the template that the student is saved with")
    elif start != size:
        what = f"the loss begins at token {start}, the reply at token {size}"
        yield Fault(check="mask", what=what, fix="take the loss of the whole reply and of nothing else")
    elif wrong := [at for at in range(start, len(ids)) if labels[at] != ids[at]]:
        what = f"{len(wrong)} tokens of the reply have another label, the first at {wrong[0]}"
        yield Fault(check="mask", what=what, fix="take the loss of the whole reply and of nothing else")


def of_tokenizer(tokenizer: Tokenizer, student: Student) -> list[Fault]:
    """Faults of the tokenizer alone."""
    found = []
    added = {token.content: token for token in tokenizer.fast.get_added_tokens_decoder().values()}
    for tag in (student.think.open, student.think.close):
        if tag in added and added[tag].special:
            what = (
                f"{tag} is a special token: decoders drop it, so evaluation and rewards would never see the reply close"
            )
            found.append(Fault(check="think", what=what, fix="register it as an ordinary added token (special: false)"))
    if student.pad is not None and tokenizer.fast.token_to_id(student.pad) is None:
        what = f"its vocabulary has no token {student.pad!r} to pad with"
        found.append(Fault(check="pad", what=what, fix="name one that it has in the preset: `pad: …`"))
    return found


def of_template(tokenizer: Tokenizer, tags: Tags, eos: str) -> list[Fault]:
    """What a chat template does to two turns with reasoning; `Tokenizer(model, template=…)` takes any template."""
    from jinja2 import TemplateError

    ask, ask_again = (Message(role="user", content=text) for text in ("What is 6 times 7?", "And 6 times 8?"))
    thoughts, answers = ("Six sevens are 42.", "Six more than before."), ("It is 42.", "It is 48.")
    reply, reply_again = (
        Message(role="assistant", content=f"{tags.open}\n{thought}\n{tags.close}\n\n{answer}")
        for thought, answer in zip(thoughts, answers, strict=True)
    )
    try:
        opening = tokenizer.apply([ask], generation_prompt=True)
        first = tokenizer.apply([ask, reply], generation_prompt=False)
        again = tokenizer.apply([ask, reply, ask_again], generation_prompt=True)
        both = tokenizer.apply([ask, reply, ask_again, reply_again], generation_prompt=False)
    except (TemplateError, InputError) as error:
        what = f"cannot render a chat: {error.what if isinstance(error, InputError) else error}"
        return [Fault(check="render", what=what, fix="name another `template:` in the student's preset")]
    head = opening.removesuffix(tokenizer.prompt([ask], tags).prefill)
    turn = first.removeprefix(head)  # what the system's turn says of tags is no concern
    said: list[tuple[Check, str]] = []
    if thoughts[0] not in turn or thoughts[1] not in both:
        said.append(("reasoning", "drops the newest turn's reasoning, which must be kept"))
    elif (opened := turn.count(tags.open), closed := turn.count(tags.close)) != (1, 1):
        said.append(("think", f"renders one think block as {opened} × {tags.open} and {closed} × {tags.close}"))
    if tags.close in opening.rpartition(ask.content)[2]:
        said.append(("think", "its generation prompt closes the reasoning before it began"))
    if not first.startswith(opening) or not both.startswith(again):
        said.append(("prompt", "its generation prompt is not how a rendered turn begins: training and use differ"))
    if not first.rstrip().endswith(answers[0] + eos):
        said.append(("eos", f"ends a turn in {first[-24:]!r}, not in {eos}: generation would not stop there"))
    if thoughts[0] in again or thoughts[0] in both:
        said.append(("history", "keeps the reasoning of earlier turns, which must be dropped"))
    elif answers[0] not in again:
        said.append(("history", "drops the answers of earlier turns, which must be kept"))
    return [Fault(check=check, what=what, fix=_TEMPLATE) for check, what in said]


def text_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """What ids stand for, special tokens included."""
    return str(tokenizer.fast.decode(list(ids), skip_special_tokens=False))


def _canonical(text: str) -> str:
    """Tokenizers may compose characters (Qwen's do); the same text in another composition is no loss."""
    return normalize("NFC", text)


def _same(one: str, two: str) -> bool:
    return one == two or _canonical(one) == _canonical(two)
