"""Distillation by hand: the whole method in one flat file, from plain torch, transformers and TRL.

    python recipes/examples/by_hand.py

The task is Countdown: make 29 from 3, 7 and 8, each used once. The teacher (1.0M parameters) thinks aloud: it tries,
compares and tries again. The base student (0.6M) answers at once, and mostly guesses. The teacher solves problems, the
replies that are right are kept, the student is fine-tuned on them, and base and student are asked what they can do with
problems that neither has seen. Nobody tells the student how to search: it learns that from the teacher's thoughts.

`distill run tiny` does the same with all that a large run needs and this file leaves out: a log that survives a kill,
sampling until enough is right, a reason for everything left out, rows audited before the first step, intervals, GPUs.
"""

import contextlib
import ctypes
import json
import os
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, set_seed
from trl import SFTConfig, SFTTrainer

import distill

TRAIN_PROBLEMS = int(os.environ.get("BY_HAND_TRAIN", "1200"))
TEST_PROBLEMS = int(os.environ.get("BY_HAND_TEST", "200"))
EPOCHS = 6
LEARNING_RATE = 2e-3  # so small a model bears it, and has little time; for billions of parameters 1e-5 is usual
BATCH_SIZE = 8  # so little data wants many steps
MAX_TOKENS = 320  # of a reply; one that needs more goes in circles
SAMPLED_AT_ONCE = 400

with contextlib.suppress(OSError):  # glibc hands freed memory back at every step, which here takes most of the time
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**29)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        ctypes.CDLL("libc.so.6").mallopt(option, value)

set_seed(1)
tiny = Path(__file__).parents[2] / "data" / "tiny"
tokenizer = AutoTokenizer.from_pretrained(tiny / "teacher")  # the student's is the same
teacher = AutoModelForCausalLM.from_pretrained(tiny / "teacher", dtype=torch.float32, attn_implementation="eager")
student = AutoModelForCausalLM.from_pretrained(tiny / "base", dtype=torch.float32, attn_implementation="eager")

# 1. Problems. A row is {"numbers": [3, 7, 8], "target": 29}; the test rows have numbers that no model was trained on.


def read_problems(name: str, count: int) -> list[dict]:
    return [json.loads(line) for line in (tiny / name).read_text().splitlines()[:count]]


def prompt_of(problem: dict) -> str:
    numbers = ", ".join(str(number) for number in problem["numbers"])
    question = (
        f"Using the numbers {numbers}, make {problem['target']}. Use each number exactly once, with + - * / and "
        "parentheses. Put the expression in <answer></answer>."
    )
    turns = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)  # ends in `<think>\n`


train_problems = read_problems("train.jsonl", TRAIN_PROBLEMS)
test_problems = read_problems("test.jsonl", TEST_PROBLEMS)

# 2. Sample. B problems at once: P tokens of prompt, padded on the left, then up to C tokens of completion.


@torch.inference_mode()
def sample(model: PreTrainedModel, problems: list[dict]) -> list[str]:
    replies = []
    for start in range(0, len(problems), SAMPLED_AT_ONCE):
        prompts = [prompt_of(problem) for problem in problems[start : start + SAMPLED_AT_ONCE]]
        prompt_B_P = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
        tokens_B_PC = model.eval().generate(
            **prompt_B_P, do_sample=True, temperature=0.6, top_p=0.95, max_new_tokens=MAX_TOKENS
        )
        completions_B_C = tokens_B_PC[:, prompt_B_P["input_ids"].shape[1] :]
        replies += tokenizer.batch_decode(completions_B_C, skip_special_tokens=True)
    return replies


# 3. Verify. The gold answer is the problem: right is any expression of these numbers that makes the target. The thought
# does not count, only what follows it; and a reply that was cut has no answer.


def verify(problems: list[dict], replies: list[str]) -> list[bool]:
    pairs = zip(problems, replies, strict=True)
    outcomes = distill.verify({"gold": gold, "pred": reply, "kind": "countdown"} for gold, reply in pairs)
    return [outcome.passed is True for outcome in outcomes]  # None means that nobody can tell, and counts as not right


def accuracy(model: PreTrainedModel) -> float:
    return sum(verify(test_problems, sample(model, test_problems))) / len(test_problems)


replies = sample(teacher, train_problems)
passed = verify(train_problems, replies)
print(f"teacher: {sum(passed) / len(passed):.1%} right")
print(f"base student: {accuracy(student):.1%} right")

# 4. Keep what is right and fit to be imitated: one thought that ends, and no Chinese, into which this teacher slips.

kept = [
    {"prompt": prompt_of(problem), "completion": reply}  # TRL puts the end-of-turn token behind it
    for problem, reply, is_right in zip(train_problems, replies, passed, strict=True)
    if is_right and reply.count("</think>") == 1 and "<think>" not in reply and reply.isascii()
]
print(f"kept {len(kept)} of {len(replies)} replies")

# 5. Train. The loss is the cross-entropy of the next token, over the completions alone: that is all of it.

with tempfile.TemporaryDirectory() as folder:
    settings = SFTConfig(
        output_dir=folder,
        num_train_epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        per_device_train_batch_size=BATCH_SIZE,
        train_sampling_strategy="group_by_length",  # rows of like length together: less padding
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=False,
        logging_steps=20,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    SFTTrainer(student, settings, train_dataset=Dataset.from_list(kept), processing_class=tokenizer).train()

# 6. Score. Expect, in less than ten minutes on two cores: teacher 76 %, base student 19 %, student 54 %. With 200
# problems each share is good to seven points, and other versions of torch draw other samples.

print(f"student: {accuracy(student):.1%} right")
