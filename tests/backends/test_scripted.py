from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from distill.backends import Backend, ChosenBackend
from distill.errors import BackendError, InputError
from distill.models.chat import Tokenizer
from distill.models.model import Model
from distill.models.request import Completion, Refused, Request
from distill.types import Sampling


def backend(folder: Path, **options: object) -> Backend:
    model = Model(name="tiny", path=str(folder), context=64)
    made: Backend = ChosenBackend.of({"kind": "scripted", **options}).build(model, folder)
    return made


def ask(made: Backend, *prompts: str, max_tokens: int = 100, seed: int = 0) -> list[Completion]:
    async def go() -> list[Completion]:
        await made.open()
        ids = Tokenizer(made.model.path).encode  # type: ignore[attr-defined]
        sampling = Sampling(max_tokens=max_tokens)
        requests = [Request(id=p, ids=tuple(ids(p)), sampling=sampling, seed=seed) for p in prompts]
        done = await asyncio.gather(*(made.complete(request) for request in requests))
        await made.close()
        return done

    return asyncio.run(go())


def test_replies(tokenizer_folder: Path) -> None:
    (done,) = ask(backend(tokenizer_folder, replies=["yes</think>né"]), "2+2?")
    assert (done.text, done.finish, done.seed) == ("yes</think>né", "stop", 0)
    assert done.tokens == len("yes") + 1 + 3  # the tag is one token, é two bytes


def test_a_reply_is_cut_at_the_budget(tokenizer_folder: Path) -> None:
    (done,) = ask(backend(tokenizer_folder, replies=["abcdef"]), "x", max_tokens=4)
    assert (done.text, done.tokens, done.finish) == ("abcd", 4, "length")


def test_a_reply_is_cut_at_the_end_of_the_context(tokenizer_folder: Path) -> None:
    (done,) = ask(backend(tokenizer_folder, replies=["abcdef"]), "x" * 61)
    assert (done.text, done.finish) == ("abc", "length")


def test_a_prompt_that_fills_the_context_is_refused(tokenizer_folder: Path) -> None:
    with pytest.raises(Refused, match="64 tokens and leaves no room"):
        ask(backend(tokenizer_folder, replies=["a"]), "x" * 64)


def test_replies_vary_with_the_request_and_repeat(tokenizer_folder: Path) -> None:
    prompts = [f"problem {i}" for i in range(40)]
    replies = ["a", "b", "c"]
    first = [done.text for done in ask(backend(tokenizer_folder, replies=replies), *prompts)]
    again = [done.text for done in ask(backend(tokenizer_folder, replies=replies), *prompts)]
    other = [done.text for done in ask(backend(tokenizer_folder, replies=replies), *prompts, seed=1)]
    assert set(first) == {"a", "b", "c"}
    assert first == again != other


def test_file(tokenizer_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_text('{"contains": "2+2", "replies": ["4"]}\n\n{"contains": "3+3", "replies": ["6"]}\n')
    done = ask(backend(tokenizer_folder, file=file, replies=["?"]), "what is 3+3", "2+2", "hi")
    assert [completion.text for completion in done] == ["6", "4", "?"]
    with pytest.raises(Refused, match="matches"):
        ask(backend(tokenizer_folder, file=file), "hi")


@pytest.mark.parametrize(("line", "said"), [("{", "2: is not JSON"), ('{"replies": []}', "2: replies"), ("[]", "2: ")])
def test_a_bad_file_names_the_line(tokenizer_folder: Path, tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_text('{"replies": ["a"]}\n' + line)
    with pytest.raises(InputError, match=f"replies.jsonl:{said}"):
        ask(backend(tokenizer_folder, file=file), "x")


def test_nothing_to_say(tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to say"):
        ask(backend(tokenizer_folder), "x")
    with pytest.raises(InputError, match="no such file"):
        ask(backend(tokenizer_folder, file=tmp_path / "none"), "x")


def test_fails_as_told(tokenizer_folder: Path) -> None:
    made = backend(tokenizer_folder, replies=["a"], fail_first=1)
    with pytest.raises(BackendError, match="as told"):
        ask(made, "x")
    assert ask(made, "x")[0].text == "a"


def test_delay_is_in_parallel(tokenizer_folder: Path) -> None:
    start = time.monotonic()
    done = ask(backend(tokenizer_folder, replies=["a"], delay=0.2), *"abcdefghij")
    assert time.monotonic() - start < 1.5
    assert all(completion.seconds >= 0.2 for completion in done)
