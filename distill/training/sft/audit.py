"""The mask audit: is what will be learnt what was meant? Always run before training, and again on the first batch.

The chat template that is saved with the student is judged by what it does to two turns, a sample of the set by what its
rows decode to, the first batch by the rows that it must be made of. What can be wrong is in faults.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from distill.errors import RunError
from distill.models.chat import Tokenizer
from distill.models.presets import Student
from distill.training.sft import row_faults, rows
from distill.training.sft.renderer import IGNORED, Renderer, labels_of
from distill.training.sft.row_faults import text_of
from distill.types import Record

_FIRST, _LONGEST, _RANDOM = 8, 8, 16


class Shown(Record):
    """One row to look at."""

    id: str
    prompt: str
    """No loss is taken of it."""
    learnt: str
    eos: str
    """Follows `learnt`, and is learnt too."""
    tokens: int
    loss_tokens: int


class Audit(Record):
    """What was looked at, and nothing was wrong."""

    rows: int
    longest: int
    """Tokens."""
    unfit: int
    """Rows of the sample that `rows.build` will leave out."""
    warnings: tuple[str, ...]
    example: Shown

    @property
    def words(self) -> str:
        left = f", {self.unfit} unfit to train on and left out" if self.unfit else ""
        return (
            f"{self.rows} rows (first, longest, random; up to {self.longest:,} tokens): the prompt is that of "
            f"inference, reasoning and one EOS are learnt{left}"
        )


def check(
    set_path: Path,
    student: Student,
    tokenizer: Tokenizer,
    eos: str,
    *,
    max_length: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Audit:
    """Audit tokenizer, template and a sample of a set: its first rows, its longest and random ones.

    Raises:
        RunError: names the row or the template, all that is wrong with it, and the remedy.
        InputError: the set is not one, or the student has no EOS.
    """
    tags = student.think
    render = Renderer(tokenizer, tags, eos)
    template_of = f"chat template {student.template or 'of ' + student.model}"
    row_faults.stop(row_faults.of_tokenizer(tokenizer, student), student.model)
    row_faults.stop(row_faults.of_template(tokenizer, tags, eos), template_of)
    shown: list[Shown] = []
    unfit: list[tuple[str, str]] = []
    for row in sample(set_path, limit, max_length, seed):
        turns = rows.messages(row, set_path)
        example, _, what = render(turns)
        if example is None:
            unfit.append((row["trace_id"], what))
            continue
        labels = labels_of(example)
        row_faults.stop(
            row_faults.of_row(tokenizer, tags, eos, turns, example.ids, labels), f"{set_path}, row {row['trace_id']}"
        )
        shown.append(_shown(tokenizer, row["trace_id"], example.ids, labels, eos))
    if not shown:
        id, what = unfit[0] if unfit else ("none", "the set is empty")
        raise RunError(
            f"none of {len(unfit)} sampled rows can be trained on; the first ({id}): {what}",
            where=str(set_path),
            fix="do template and think tags of the student's preset fit the traces?",
        )
    return Audit(
        rows=len(shown),
        longest=max(row.tokens for row in shown),
        unfit=len(unfit),
        warnings=warnings(tokenizer, student, eos),
        example=shown[0],
    )


def sample(path: Path, limit: int | None, longest: int | None, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of a set: the first ones, those with the longest replies (of up to `longest` tokens) and random ones."""
    import pyarrow

    columns = [*rows.COLUMNS, "tokens"]
    source = rows.opened(path, columns)
    sizes = source.read(columns=["tokens"]).column(0).slice(0, limit).to_pylist()
    trained = [at for at, size in enumerate(sizes) if longest is None or size < longest]
    chosen = set(range(min(_FIRST, len(sizes))))
    chosen |= set(sorted(trained, key=lambda at: (-sizes[at], at))[:_LONGEST])
    chosen |= set(random.Random(seed).sample(range(len(sizes)), min(_RANDOM, len(sizes))))  # noqa: S311
    start = 0
    for group in range(source.num_row_groups):
        end = start + source.metadata.row_group(group).num_rows
        if any(start <= at < end for at in chosen):
            for batch in source.iter_batches(batch_size=256, row_groups=[group], columns=columns):
                here = [at - start for at in sorted(chosen) if start <= at < start + batch.num_rows]
                yield from batch.take(pyarrow.array(here, pyarrow.int64())).to_pylist()
                start += batch.num_rows
        start = end


def _shown(tokenizer: Tokenizer, id: str, ids: Sequence[int], labels: Sequence[int], eos: str) -> Shown:
    learnt = [label for label in labels if label != IGNORED]
    return Shown(
        id=id,
        prompt=text_of(tokenizer, ids[: len(ids) - len(learnt)]),
        learnt=text_of(tokenizer, learnt[:-1]),
        eos=eos,
        tokens=len(ids),
        loss_tokens=len(learnt),
    )


def warnings(tokenizer: Tokenizer, student: Student, eos: str) -> tuple[str, ...]:
    """What does not harm this training, but may harm what follows."""
    said = []
    if (student.pad or tokenizer.special("pad_token")) == eos:
        said.append(f"padding and EOS are both {eos}: a trainer that masks padding by its id never learns to stop")
    spelt = [tag for tag in (student.think.open, student.think.close) if len(tokenizer.encode(tag)) != 1]
    if spelt:
        said.append(
            f"{' and '.join(spelt)} are spelt, not tokens: vLLM's reasoning parser qwen3 reads that, deepseek_r1 not"
        )
    return tuple(said)


def batch(
    input_ids: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    built: Path,
    position_ids: Sequence[Sequence[int]] | None = None,
) -> int:
    """Check a batch as the model gets it, padded or packed: whole rows of the built file, with the mask built for them.

    Args:
        input_ids: (rows, tokens); a row is one document and padding, or several documents packed.
        built: the file that `rows.build` wrote.
        position_ids: of a packed batch, from 0 in each document, so that documents do not see one another.

    Returns:
        The number of documents.

    Raises:
        RunError: a document was cut, joined to another, or has another mask.
    """
    documents: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for number, (ids, marks) in enumerate(zip(input_ids, labels, strict=True)):
        starts = [at for at, mark in enumerate(marks) if mark == IGNORED and (at == 0 or marks[at - 1] != IGNORED)]
        cuts = sorted({0, *starts, len(ids)})
        found = [(tuple(ids[a:b]), tuple(marks[a:b])) for a, b in pairwise(cuts)]
        if found and set(found[-1][1]) == {IGNORED} and len(set(found[-1][0])) == 1:
            found.pop()  # padding
        documents += found
        if position_ids is not None:
            _positions(position_ids[number], [len(ids) for ids, _ in found], number)
    missing = set(documents)
    sizes = {len(ids) for ids, _ in documents}
    masks: dict[tuple[int, ...], int] = {}
    for row, marks in rows.find(built, sizes):
        missing.discard((tuple(row), tuple(marks)))
        masks[tuple(row)] = sum(mark != IGNORED for mark in marks)
    for ids, marks in documents:
        if (ids, marks) not in missing:
            continue
        learnt = sum(mark != IGNORED for mark in marks)
        what = f"it learns {learnt:,} of its {len(ids):,} tokens, " + (
            f"and was built to learn {masks[ids]:,}" if ids in masks else "and no row reads so: it was cut or joined"
        )
        raise RunError(
            f"a document of the first batch is not what was built: {what}",
            where=str(built),
            fix="this is a fault of batching, not of the data: please report it with the versions in run.json",
        )
    return len(documents)


def _positions(positions: Sequence[int], sizes: Sequence[int], number: int) -> None:
    expected = [position for size in sizes for position in range(size)]
    if list(positions[: len(expected)]) != expected:
        raise RunError(
            f"positions in row {number} of the first batch do not start again with each document: it would see others",
            fix="this is a fault of packing, not of the data: please report it with the versions in run.json",
        )
