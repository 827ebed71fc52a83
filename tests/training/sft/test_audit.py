"""The mask audit on real templates of Qwen2.5, Qwen3, Llama 3 and R1-Distill, and on rows that others would train."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from distill.cli.audit import shortened, show
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tokenizers import AddedToken
from tokenizers import Tokenizer as Fast

from distill.errors import InputError, RunError
from distill.models import presets
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.progress import LogLines
from distill.training.sft import audit, row_faults, rows
from distill.training.sft.renderer import IGNORED, Renderer, labels_of
from distill.types import Message
from tests.training import worlds

TAGS = Tags()
NAMED = [name for name in presets.names("student") if presets.student(name).template]
ASK = Message(role="user", content="What is 6 * 7?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize(
    ("template", "eos", "expected"),
    [
        ("think-chatml", "<|im_end|>", set()),
        ("think-chatml", "<|endoftext|>", {"eos"}),
        ("qwen2_5", "<|im_end|>", {"history"}),
        ("qwen2_5", "<|endoftext|>", {"eos", "history"}),  # as the base's own tokenizer says
        ("qwen3", "<|im_end|>", set()),
        ("qwen3", "<|endoftext|>", {"eos"}),
        ("qwen3_training", "<|im_end|>", {"history"}),
        ("qwen3_5_think", "<|im_end|>", set()),
        ("qwen3_5_nothink", "<|im_end|>", {"prompt", "think"}),  # prefills a closed block
        ("qwen3_8", "<|im_end|>", {"think", "history"}),  # writes a second <think>
        ("llama3", "<|eot_id|>", {"history"}),
        ("llama3", "<|end_of_text|>", {"eos", "history"}),  # as the base's own tokenizer says
        ("llama3_1", "<|eot_id|>", {"history"}),
        ("deepseek_r1_distill", "<｜end▁of▁sentence｜>", {"reasoning", "prompt"}),
        ("deepseek_r1_distill_training", "<｜end▁of▁sentence｜>", {"history"}),
        *((student.template, student.eos, set()) for student in map(presets.student, NAMED)),
    ],
)
def test_faults_of_real_templates(template: str, eos: str, expected: set[str], folder: Path, tiny: Path) -> None:
    tokenizer = worlds.tokenizer(folder, tiny, template)
    assert {fault.kind for fault in row_faults.of_template(tokenizer, TAGS, eos)} == expected


def test_a_template_that_cannot_render_and_one_that_explains_the_tags(folder: Path, tiny: Path) -> None:
    chatml = str(worlds.model(folder / "chatml", tiny))
    no_bos = Tokenizer(chatml, template=worlds.template_text("llama3"))
    (fault,) = row_faults.of_template(no_bos, TAGS, "<|eot_id|>")
    assert fault.kind == "render"
    assert "bos_token" in fault.description
    system = "<|im_start|>system\nThink between <think> and </think>.<|im_end|>\n"
    explained = Tokenizer(
        chatml, template="{{- '" + system.replace("\n", "\\n") + "' }}" + worlds.template_text("qwen3")
    )
    assert row_faults.of_template(explained, TAGS, "<|im_end|>") == []


def foreign(tokenizer: Tokenizer, prompt: str, rest: str) -> tuple[list[int], list[int]]:
    """A row with a completion-only loss, as another trainer might make it."""
    head, learnt = tokenizer.encode(prompt), tokenizer.encode(rest)
    return head + learnt, [IGNORED] * len(head) + learnt


def checks(tokenizer: Tokenizer, content: str, ids: list[int], labels: list[int], eos: str) -> set[str]:
    turns = [ASK, Message(role="assistant", content=content)]
    return {fault.kind for fault in row_faults.of_row(tokenizer, TAGS, eos, turns, ids, labels)}


def test_stripped_reasoning_of_a_conversation_rendered_whole(folder: Path, tiny: Path) -> None:
    """R1-Distill's own template, as any trainer that renders the whole chat would use it."""
    tokenizer = worlds.tokenizer(folder, tiny, "deepseek_r1_distill")
    content = worlds.reply()
    text = tokenizer.apply([ASK, Message(role="assistant", content=content)], generation_prompt=False)
    prompt, mark, rest = text.partition("<｜Assistant｜>")
    found = checks(tokenizer, content, *foreign(tokenizer, prompt + mark, rest), "<｜end▁of▁sentence｜>")
    assert found == {"reasoning", "think", "prompt"}


def test_double_think_where_a_prefilled_prompt_meets_a_whole_trace(folder: Path, tiny: Path) -> None:
    tokenizer = worlds.tokenizer(folder, tiny, "deepseek_r1_distill")
    eos = "<｜end▁of▁sentence｜>"
    prompt = tokenizer.prompt([ASK], TAGS).text
    assert checks(tokenizer, worlds.reply(), *foreign(tokenizer, prompt, worlds.reply() + eos), eos) == {"think"}
    once = worlds.reply().removeprefix("<think>\n")
    assert checks(tokenizer, worlds.reply(), *foreign(tokenizer, prompt, once + eos), eos) == set()


def test_missing_eos_where_base_and_template_disagree(folder: Path, tiny: Path) -> None:
    """Qwen2.5 and Llama 3 bases name another EOS than their template ends a turn with."""
    for template, eos in (("qwen2_5", "<|endoftext|>"), ("llama3", "<|end_of_text|>")):
        tokenizer = worlds.tokenizer(folder, tiny, template)
        content = worlds.reply()
        prompt = tokenizer.apply([ASK], generation_prompt=True)
        whole = tokenizer.apply([ASK, Message(role="assistant", content=content)], generation_prompt=False)
        assert "eos" in checks(tokenizer, content, *foreign(tokenizer, prompt, whole.removeprefix(prompt)), eos)


def test_wrong_prefix_where_training_and_inference_use_two_templates(folder: Path, tiny: Path) -> None:
    """Qwen2.5's template adds a system turn that ours, which the student is saved with, does not."""
    tokenizer = worlds.tokenizer(folder, tiny, "think-chatml")
    theirs = worlds.tokenizer(folder, tiny, "qwen2_5").apply([ASK], generation_prompt=True)
    found = checks(tokenizer, worlds.reply(), *foreign(tokenizer, theirs, worlds.reply() + "<|im_end|>"), "<|im_end|>")
    assert found == {"prompt"}


Damage = Callable[[list[int], list[int]], tuple[list[int], list[int]]]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda ids, labels: (ids, labels), set()),
        (lambda ids, labels: (ids[:-2], labels[:-2]), {"eos"}),  # cut at max_length
        (lambda ids, labels: (ids, ids), {"mask", "eos"}),  # the prompt is learnt, and where it ends too
        (lambda ids, labels: (ids, [*labels[:-1], IGNORED]), {"eos", "mask"}),  # masked with the padding
        (lambda ids, labels: (ids, [IGNORED] * (len(ids) - 8) + labels[-8:]), {"reasoning", "mask"}),
        (lambda ids, labels: ([*ids[:-1], ids[-1], ids[-1]], [*labels, ids[-1]]), {"eos"}),
        (lambda ids, labels: (ids[:30] + ids[31:], labels[:30] + labels[31:]), {"reasoning"}),
    ],
)
def test_damaged_rows(damage: Damage, expected: set[str], folder: Path, tiny: Path) -> None:
    tokenizer = worlds.tokenizer(folder, tiny, "think-chatml")
    content = worlds.reply("First 6 * 7, which is 42, I am sure of it.")
    example, _, _ = Renderer(tokenizer, TAGS, "<|im_end|>")([ASK, Message(role="assistant", content=content)])
    assert example is not None
    assert checks(tokenizer, content, *damage(list(example.ids), labels_of(example)), "<|im_end|>") == expected


def test_a_tokenizer_that_loses_text_is_caught(folder: Path, tiny: Path) -> None:
    """One whose vocabulary lacks most characters: they vanish, or an unknown token stands for them."""
    path = worlds.model(folder / "poor", tiny)
    kept = json.loads((path / "tokenizer.json").read_text())
    kept["model"]["vocab"] = {text: id for text, id in kept["model"]["vocab"].items() if text != "z"}
    kept["model"]["merges"] = []
    (path / "tokenizer.json").write_text(json.dumps(kept))
    template = worlds.template_text("think-chatml")
    content = worlds.reply("pizza")
    turns = [ASK, Message(role="assistant", content=content)]
    for unknown, check in ((None, "text"), ("<|im_start|>", "unknown")):
        kept["model"]["unk_token"] = unknown
        (path / "tokenizer.json").write_text(json.dumps(kept))
        tokenizer = Tokenizer(str(path), template=template)
        text = tokenizer.prompt([ASK], TAGS).text
        row = foreign(tokenizer, text, content.removeprefix("<think>\n") + "<|im_end|>")
        found = {fault.kind for fault in row_faults.of_row(tokenizer, TAGS, "<|im_end|>", turns, *row)}
        assert found & {"reasoning", "text"}
        assert unknown is None or check in found or unknown in text


def test_think_tags_that_decoders_drop_and_a_pad_that_is_no_token(folder: Path, tiny: Path) -> None:
    path = worlds.model(folder / "special", tiny)
    fast = Fast.from_file(str(path / "tokenizer.json"))
    fast.add_special_tokens([AddedToken("[THINK]"), AddedToken("[/THINK]")])
    fast.save(str(path / "tokenizer.json"))
    student = presets.student("tiny").model_copy(
        update={"think": Tags(open="[THINK]", close="[/THINK]"), "pad": "<|nothing|>"}
    )
    found = row_faults.of_tokenizer(Tokenizer(str(path)), student)
    assert [fault.kind for fault in found] == ["think", "think", "pad"]
    assert row_faults.of_tokenizer(Tokenizer(str(path)), presets.student("tiny")) == []


def test_warnings(tiny: Path) -> None:
    tokenizer, student = Tokenizer(str(tiny / "base")), presets.student("tiny")
    assert audit.warnings(tokenizer, student, "<|im_end|>") == ()
    assert "padding and EOS are both <|endoftext|>" in audit.warnings(tokenizer, student, "<|endoftext|>")[0]
    spelt = student.model_copy(update={"think": Tags(open="<reasoning>", close="</reasoning>")})
    (said,) = audit.warnings(tokenizer, spelt, "<|im_end|>")
    assert "<reasoning> and </reasoning> are spelt" in said


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = [(f"What is {n} * 7?", worlds.reply(f"{n} sevens. " * (1 + n % 40), str(7 * n))) for n in range(300)]
    return worlds.write_set(tmp_path_factory.mktemp("set") / "train.parquet", pairs)


def test_a_good_set_passes_and_the_sample_has_first_longest_and_random_rows(good: Path, tiny: Path) -> None:
    student, tokenizer = presets.student("tiny"), Tokenizer(str(tiny / "base"))
    found = audit.check(good, student, tokenizer, "<|im_end|>")
    assert found == audit.check(good, student, tokenizer, "<|im_end|>")
    assert found.example.id == "r0"
    assert found.example.prompt.endswith("What is 0 * 7?<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert found.example.learnt == "0 sevens. \n</think>\n\n0"
    assert "reasoning and one EOS are learnt" in found.summary
    sampled = [row["trace_id"] for row in audit.sample(good, None, None, 0)]
    assert sampled[:8] == [f"r{n}" for n in range(8)]
    assert {f"r{n}" for n in (119, 159, 199, 239, 279)} <= set(sampled), "the longest"
    assert 24 < len(sampled) == len(set(sampled)) <= 32
    assert any(number > 256 for number in (int(id[1:]) for id in sampled)), "from every part of the file"
    assert all(int(row["trace_id"][1:]) < 20 for row in audit.sample(good, 20, None, 0))
    assert max(row["tokens"] for row in audit.sample(good, None, 100, 0) if row["trace_id"] != "r7") <= 600


def test_the_error_names_the_row_and_the_template(good: Path, tmp_path: Path, folder: Path, tiny: Path) -> None:
    student = presets.student("tiny")
    stripping = worlds.tokenizer(folder, tiny, "deepseek_r1_distill")
    with pytest.raises(RunError, match="drops the newest turn's reasoning") as told:
        audit.check(good, student, stripping, "<｜end▁of▁sentence｜>")
    assert told.value.where is not None
    assert "chat template" in told.value.where
    assert told.value.fix is not None
    assert "think-chatml" in told.value.fix
    poor = worlds.model(folder / "blind", tiny)
    kept = json.loads((poor / "tokenizer.json").read_text())
    del kept["model"]["vocab"]["z"]
    kept["model"]["merges"] = []
    (poor / "tokenizer.json").write_text(json.dumps(kept))
    pairs = [(f"{n}?", worlds.reply("pizza" if n == 5 else "bread")) for n in range(10)]
    path = worlds.write_set(tmp_path / "pizza.parquet", pairs)
    blind = Tokenizer(str(poor), template=worlds.template_text("think-chatml"))
    with pytest.raises(RunError, match="row r5"):
        audit.check(path, student, blind, "<|im_end|>")


def test_a_set_that_does_not_fit_the_template_at_all_is_refused(tmp_path: Path, tiny: Path) -> None:
    path = worlds.write_set(tmp_path / "plain.parquet", [("Hi", "Hello"), ("Bye", "Goodbye")])
    with pytest.raises(RunError, match=r"none of 2 sampled rows .* \(r0\): the template prefills <think>"):
        audit.check(path, presets.student("tiny"), Tokenizer(str(tiny / "base")), "<|im_end|>")


def test_an_eos_that_is_missing_or_no_token_is_refused(good: Path, tiny: Path) -> None:
    tokenizer = Tokenizer(str(tiny / "base"))
    with pytest.raises(InputError, match="it has no EOS token"):
        audit.check(good, presets.student("tiny"), tokenizer, "")
    with pytest.raises(InputError, match=r"'</done>' is \d+ tokens, not one"):
        audit.check(good, presets.student("tiny"), tokenizer, "</done>")


WORDS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<|im_end|>",
        "<|im_start|>assistant\n",
        "<answer>",
        "\n\n",
        " ",
        "42",
        "\u0338",
        "é",
        "e\u0301",
    ]
)
TEXT = st.lists(WORDS | st.text(max_size=12), max_size=8).map("".join)


@settings(max_examples=50)
@given(ask=TEXT, thought=TEXT, answer=TEXT, thinks=st.booleans())
def test_any_text_is_either_left_out_or_passes(
    ask: str, thought: str, answer: str, thinks: bool, folder: Path, tiny: Path
) -> None:
    """What the build writes never fails the audit, and what it leaves out has a reason."""
    content = worlds.reply(thought, answer) if thinks else answer
    turns = [Message(role="user", content=ask), Message(role="assistant", content=content)]
    for template in ("think-chatml", "spelt think-chatml", "qwen3", "llama3", "deepseek_r1_distill"):
        tokenizer, eos = worlds.tokenizer(folder, tiny, template), worlds.EOS[worlds.family(template)]
        example, reason, what = Renderer(tokenizer, TAGS, eos)(turns)
        if example is None:
            assert reason in ("refused", "special_token", "double_think")
            assert what
        else:
            assert row_faults.of_row(tokenizer, TAGS, eos, turns, example.ids, labels_of(example)) == []


@pytest.fixture(scope="module")
def built(good: Path, tiny: Path) -> Path:
    out = good.with_name("rows.parquet")
    rows.build(
        good, presets.student("tiny"), Tokenizer(str(tiny / "base")), max_length=400, rows_path=out, progress=LogLines()
    )
    return out


Rows = list[list[int]]


def documents(built: Path, count: int = 4) -> tuple[Rows, Rows]:
    import pyarrow.parquet as pq

    table = pq.read_table(built).slice(10, count)
    return table["input_ids"].to_pylist(), table["labels"].to_pylist()


def joined(documents: Rows) -> list[int]:
    return [id for row in documents for id in row]


def padded(documents: Rows, value: int) -> Rows:
    size = max(map(len, documents)) + 3
    return [row + [value] * (size - len(row)) for row in documents]


def test_a_padded_batch_and_a_packed_one_pass(built: Path) -> None:
    ids, labels = documents(built)
    assert audit.check_batch(padded(ids, 0), padded(labels, IGNORED), built) == 4
    positions = [[at for row in ids for at in range(len(row))]]
    assert audit.check_batch([joined(ids)], [joined(labels)], built, positions) == 4


def test_a_batch_that_was_cut_joined_or_masked_otherwise_is_refused(built: Path) -> None:
    ids, labels = documents(built)
    with pytest.raises(RunError, match="cut or joined"):
        audit.check_batch([row[:-4] for row in ids], [row[:-4] for row in labels], built)
    with pytest.raises(RunError, match="was built to learn"):
        audit.check_batch(ids, [[IGNORED] * (len(row) - 5) + row[-5:] for row in labels], built)
    with pytest.raises(RunError, match="not what was built"):  # EOS masked together with the padding
        audit.check_batch(padded(ids, 2), [[-100 if id == 2 else id for id in row] for row in padded(labels, 2)], built)
    with pytest.raises(RunError, match=r"learns (\d+) of its \1 tokens"):
        audit.check_batch(ids, ids, built)
    with pytest.raises(RunError, match="do not start again"):
        audit.check_batch([joined(ids)], [joined(labels)], built, [list(range(sum(map(len, ids))))])


def shown(audited: audit.Audit, **settings: object) -> str:
    out = io.StringIO()
    show(audited, Console(file=out, width=100, **settings))  # type: ignore[arg-type]
    return out.getvalue()


def test_the_example_is_shown_in_colours_with_hostile_text_made_plain(good: Path, tiny: Path) -> None:
    found = audit.check(good, presets.student("tiny"), Tokenizer(str(tiny / "base")), "<|im_end|>")
    hostile = "[red]no markup[/red] \x1b]0;title\x07 \u202e " + "x" * 5000 + "the end"
    example = found.example.model_copy(update={"learnt": hostile})
    found = found.model_copy(update={"example": example, "warnings": ("careful",)})
    coloured = shown(found, force_terminal=True, color_system="standard")
    assert "\x1b[32m[red]no markup[/red] \\x1b]0;title\\x07 \\u202e" in coloured
    assert "\x1b[30;42m<|im_end|>" in coloured
    assert "\x1b[2m" in coloured
    assert "careful" in coloured
    assert "x" * 700 not in coloured
    plain = shown(found)
    assert "\x1b" not in plain
    assert "learnt from '[red]no markup[/red]" in plain
    assert shortened("x" * 2000) == "x" * 600 + " [… 1,100 characters …] " + "x" * 300


@pytest.mark.integration
def test_batches_of_the_real_trainer(built: Path, tiny: Path, tmp_path: Path) -> None:
    """What TRL makes of the rows: padded, packed, cut at its own default length, and masked by the padding's id."""
    from datasets import load_dataset
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling
    from trl import SFTConfig, SFTTrainer

    loaded = load_dataset("parquet", data_files=str(built), split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer = AutoTokenizer.from_pretrained(tiny / "base")

    def batch(count: int, **settings: object) -> dict[str, Rows]:
        arguments = SFTConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to="none",
            dataloader_pin_memory=False,
            **settings,
        )
        data = loaded.select_columns(["input_ids", "labels"])
        trainer = SFTTrainer(str(tiny / "base"), args=arguments, train_dataset=data, processing_class=tokenizer)
        made = trainer.data_collator([trainer.train_dataset[at] for at in range(count)])
        return {name: made[name].tolist() for name in ("input_ids", "labels", "position_ids") if name in made}

    assert audit.check_batch(**batch(6, max_length=None), rows_path=built) == 6
    packed = batch(1, max_length=1000, packing=True)
    assert audit.check_batch(**packed, rows_path=built) == sum(at == 0 for at in packed["position_ids"][0]) > 2
    with pytest.raises(RunError, match="cut or joined"):
        audit.check_batch(**batch(6, max_length=64), rows_path=built)
    with pytest.raises(RunError):
        audit.check_batch(**batch(1, max_length=1000, packing=True, packing_strategy="wrapped"), rows_path=built)
    tokenizer.pad_token = tokenizer.eos_token
    ids = loaded[:2]["input_ids"]
    masked = DataCollatorForLanguageModeling(tokenizer, mlm=False)([{"input_ids": row} for row in ids])
    with pytest.raises(RunError, match="not what was built"):
        audit.check_batch(masked["input_ids"].tolist(), masked["labels"].tolist(), rows_path=built)
