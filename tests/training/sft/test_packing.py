"""Documents packed into one row do not see one another: what each learns is what it learns alone."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_documents_have_the_logits_and_the_loss_that_they_have_alone(tiny: Path, attention: str) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl.data_utils import pack_dataset
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    draw = torch.Generator().manual_seed(0)
    lengths = [17, 40, 9, 63, 31, 22]
    documents = [torch.randint(0, 250, (length,), generator=draw).tolist() for length in lengths]
    # a prompt of five tokens is not learnt, in each
    rows = Dataset.from_list([{"input_ids": ids, "labels": [-100] * 5 + ids[5:]} for ids in documents])
    packed = pack_dataset(rows, seq_length=128, strategy="bfd")
    assert len(packed) < len(rows)
    assert sorted(n for row in packed for n in row["seq_lengths"]) == sorted(lengths)
    model = AutoModelForCausalLM.from_pretrained(
        tiny / "base", dtype=torch.float32, attn_implementation=attention
    ).eval()
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    alone = {tuple(ids): model(torch.tensor([ids]), use_cache=False).logits[0] for ids in documents}
    seen = 0
    with torch.no_grad():
        for row in packed:
            batch = collate([row])
            together = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
            at = 0
            for length in row["seq_lengths"]:
                ids = row["input_ids"][at : at + length]
                torch.testing.assert_close(together[at : at + length], alone[tuple(ids)], atol=2e-5, rtol=1e-5)
                # the first token of a document is not predicted from the document before it
                assert batch["labels"][0, at] == -100
                assert batch["labels"][0, at + 5 : at + length].tolist() == ids[5:]
                seen, at = seen + 1, at + length
    assert seen == len(documents)
