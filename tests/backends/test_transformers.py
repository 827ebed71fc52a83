"""The embedded backend on a random tiny model, which ends its replies at random."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from distill.backends import Backend, ChosenBackend
from distill.errors import BackendError, InputError
from distill.models.chat import Tokenizer
from distill.models.model import Model
from distill.models.request import Completion, Refused, Request
from distill.types import Sampling

pytestmark = pytest.mark.slow  # importing torch and transformers alone takes seconds


def backend(folder: Path, context: int = 256, **options: Any) -> Backend:
    model = Model(name="tiny", path=str(folder), context=context)
    made: Backend = ChosenBackend.of({"kind": "transformers", "dtype": "float32", **options}).build(model, folder)
    return made


def request(name: object, prompt: str = "some prompt", **sampling: Any) -> Request:
    return Request(id=str(name), ids=tuple(prompt.encode()), sampling=Sampling(**sampling), seed=0)


def sample(made: Backend, requests: list[Request]) -> list[Completion]:
    async def go() -> list[Completion]:
        await made.open()
        try:
            return await asyncio.gather(*(made.complete(r) for r in requests))
        finally:
            await made.close()

    return asyncio.run(go())


def test_greedy_rows_equal_generating_each_alone(model_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)  # on a busy machine, two threads that wait for one another take minutes
    net = AutoModelForCausalLM.from_pretrained(model_folder).float()
    end = net.generation_config.eos_token_id
    tokenizer = Tokenizer(str(model_folder))
    texts = [f"prompt {'x' * (i % 7)} number {i * i}" for i in range(30)]
    requests = [request(i, text, temperature=0, max_tokens=5 + 4 * i) for i, text in enumerate(texts)]
    made = backend(model_folder, batch=8)
    done = sample(made, requests)
    assert made.engine.startswith("transformers ")
    for asked, got in zip(requests, done, strict=True):
        prompt = torch.tensor([asked.ids])
        out = net.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            top_k=None,
            max_new_tokens=asked.sampling.max_tokens,
        )[0, len(asked.ids) :].tolist()
        stopped = out[-1] == end
        assert got.text == tokenizer.decode(out)
        assert got.tokens == len(out) - stopped
        assert got.finish == ("stop" if stopped else "length")
        assert got.seed is None
    assert {completion.finish for completion in done} >= {"length"}


def test_a_seed_repeats_its_samples_and_another_draws_others(model_folder: Path) -> None:
    def texts(seed: int) -> list[str]:
        requests = [request(i, temperature=1.0, max_tokens=20).model_copy(update={"seed": seed}) for i in range(4)]
        return [completion.text for completion in sample(backend(model_folder), requests)]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


def test_sampling_is_what_was_asked_for(model_folder: Path) -> None:
    """Not what generation_config.json says: its top_k of 1 would make all of them equal."""
    requests = [request(i, temperature=t, max_tokens=40) for i in range(12) for t in (0.0, 1.0)]
    done = sample(backend(model_folder, batch=5), requests)
    assert len({completion.text for completion in done[::2]}) == 1
    assert len({completion.text for completion in done[1::2]}) == 12
    top = sample(backend(model_folder), [request(i, temperature=1, top_k=1, max_tokens=40) for i in range(3)])
    assert {completion.text for completion in top} == {done[0].text}


def test_rows_end_by_eos_budget_and_context(model_folder: Path) -> None:
    requests = [request(i, temperature=1.5, max_tokens=1000) for i in range(60)]
    done = sample(backend(model_folder, context=100, batch=32), requests)
    assert {completion.finish for completion in done} == {"stop", "length"}
    room = 100 - len(requests[0].ids)
    assert all(completion.tokens == room for completion in done if completion.finish == "length")
    assert all(completion.tokens < room for completion in done if completion.finish == "stop")


def test_a_prompt_without_room_is_refused(model_folder: Path) -> None:
    with pytest.raises(Refused, match="leaves no room"):
        sample(backend(model_folder, context=11), [request(0)])


def test_cancelling_and_closing_stop_at_once(model_folder: Path) -> None:
    async def go() -> None:
        made = backend(model_folder, batch=4)
        await made.open()
        greedy = {"temperature": 0.0, "max_tokens": 240}
        tasks = [asyncio.create_task(made.complete(request(i, "x", **greedy))) for i in range(40)]
        await asyncio.sleep(0.1)
        tasks[0].cancel()
        start = time.monotonic()
        await made.close()
        assert time.monotonic() - start < 1.5
        left = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(result, asyncio.CancelledError) for result in left)

    asyncio.run(go())


def test_a_longer_context_than_the_model_has_is_wrong_input(model_folder: Path) -> None:
    with pytest.raises(InputError, match="context of 256 tokens, 4096 are needed"):
        sample(backend(model_folder, context=4096), [])


def test_no_model_there(tokenizer_folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((tokenizer_folder / name).read_text())
    with pytest.raises(BackendError, match="cannot be loaded"):
        sample(backend(tmp_path), [])
