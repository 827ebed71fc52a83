"""Less is computed for padding, and what comes out is the same."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from distill.training.grpo import lean_trainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:TRL currently supports vLLM"),  # ours is newer, and not used here
]
TEXT = (
    "Using the numbers {}, make {}. Use each number exactly once, with + - * / and parentheses. "
    "Put the expression in <answer></answer>."
)
PROMPTS = [
    [{"role": "user", "content": TEXT.format(numbers, target)}]
    for numbers, target in (("3, 7, 8", 29), ("2, 5, 6", 28), ("17, 9, 3", 29), ("20, 2, 5", 15))
]


@pytest.fixture(scope="module")
def trainer(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return built(tiny / "teacher", tmp_path_factory.mktemp("out"))


def built(model: Path, out: Path) -> Any:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig

    torch.set_num_threads(1)
    arguments = GRPOConfig(
        output_dir=str(out),
        use_cpu=True,
        bf16=False,
        report_to="none",
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=60,
        temperature=0.9,
    )
    return lean_trainer.trainer_class()(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=AutoTokenizer.from_pretrained(model),
    )


def prompts(trainer: Any) -> list[list[int]]:
    told = trainer.processing_class.apply_chat_template(PROMPTS, add_generation_prompt=True, return_dict=True)
    return [list(ids) for ids in told["input_ids"]]


@pytest.mark.parametrize("most", [60, 200])
def test_completions_are_those_of_generate_on_each_prompt_alone(trainer: Any, most: int) -> None:
    import torch
    from transformers import GenerationConfig

    asked = [ids for ids in prompts(trainer) for _ in range(2)]
    greedy = GenerationConfig(do_sample=False, eos_token_id=[2], pad_token_id=0, max_new_tokens=most)
    with torch.no_grad():
        made = lean_trainer.sample(trainer.model, asked, most, greedy)
        for ids, ours in zip(asked, made, strict=True):
            alone = trainer.model.generate(torch.tensor([ids]), generation_config=greedy)
            assert ours == alone[0, len(ids) :].tolist()
    ended = [ids[-1] == 2 for ids in made]
    assert any(ended)
    assert len(set(map(len, made))) > 1


def batch() -> tuple[Any, Any, Any, int]:
    """Ids, mask, and the weight of each completion token in the loss; all rows may have so many of those."""
    import torch

    draw = torch.Generator().manual_seed(0)
    lengths, before, most = torch.randint(1, 90, (40,), generator=draw), 12, 90
    ids = torch.randint(3, 400, (40, before + most), generator=draw)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths.tolist()):
        mask[row, row % 5 : before + length] = 1
    mask[7, before:] = 0  # TRL's mask_truncated_completions
    weight = torch.rand(40, most, generator=draw) * mask[:, before:]
    return ids, mask, weight, most


def slopes(model: Any) -> list[Any]:
    return [weights.grad.clone() for weights in model.parameters()]


def assert_alike(ours: list[Any], theirs: list[Any]) -> None:
    import torch

    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-3 * float(other.abs().max()), rtol=1e-3)


def test_log_probabilities_and_gradients_are_those_of_trl(trainer: Any) -> None:
    import torch
    from trl import GRPOTrainer

    ids, mask, weight, most = batch()
    found = []
    for kind in (type(trainer), GRPOTrainer):
        trainer.model.zero_grad()
        ask = kind._get_per_token_logps_and_entropies
        told, entropy, _ = ask(trainer, trainer.model, ids, mask, most, batch_size=4, compute_entropy=True)
        (told * weight).sum().backward()
        found.append((told.detach() * weight, entropy.detach() * weight, slopes(trainer.model)))
    (ours, our_entropy, our_slopes), (theirs, their_entropy, their_slopes) = found
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(our_entropy, their_entropy, atol=1e-4, rtol=1e-4)
    assert_alike(our_slopes, their_slopes)


def rank(number: int, model: Path, out: Path, port: int) -> None:
    """One of two processes that share the batch."""
    import torch

    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    trainer = built(model, out / str(number))
    assert trainer.accelerator.num_processes == 2
    parallel = trainer.accelerator.prepare(trainer.model)
    ids, mask, weight, most = (one[number::2] if hasattr(one, "shape") else one for one in batch())
    told, _, _ = trainer._get_per_token_logps_and_entropies(parallel, ids, mask, most)
    (told * weight).sum().backward()
    torch.save(slopes(trainer.model), out / f"{number}.pt")


def test_two_processes_find_the_gradients_of_one(trainer: Any, tiny: Path, tmp_path: Path) -> None:
    import torch

    ids, mask, weight, most = batch()
    trainer.model.zero_grad()
    told, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, most)
    (told * weight).sum().backward()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(rank, (tiny / "teacher", tmp_path, port), nprocs=2)
    for number in range(2):
        mean = torch.load(tmp_path / f"{number}.pt")
        assert_alike([2 * slope for slope in mean], slopes(trainer.model))
