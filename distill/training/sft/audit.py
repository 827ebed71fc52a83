"""The mask audit: is what will be learnt what was meant? Always run before training, and again on the first batch.

The chat template that is saved with the student is judged by what it does to two turns, a sample of the set by what its
rows decode to, the first batch by the rows that it must be made of. What can be wrong is in row_faults.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from distill.errors import RunError
from distill.models.chat import Tokenizer
from distill.models.presets import Student
from distill.training.sft import row_faults, rows
from distill.training.sft.renderer import IGNORED, Renderer, SetRow, labels_of
from distill.training.sft.row_faults import text_of
from distill.types import Record

_FIRST = 8
_LONGEST = 8
_RANDOM = 16
_Document = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids and labels of one document of a batch."""


class AuditedRow(Record):
    """One row to look at, as the student will learn it."""

    id: str
    prompt: str
    """Text that no loss is taken of."""
    learnt: str
    """Text that the loss is taken of, without the EOS."""
    eos: str
    """The EOS token, which follows `learnt` and is learnt too."""
    tokens: int
    loss_tokens: int


class Audit(Record):
    """An audit that found nothing wrong: what was looked at."""

    rows: int
    longest_tokens: int
    """Tokens of the longest row."""
    unfit_rows: int
    """Rows of the sample that `rows.build` will leave out."""
    warnings: tuple[str, ...]
    example: AuditedRow

    @property
    def summary(self) -> str:
        """The audit in one line."""
        unfit = f", {self.unfit_rows} unfit to train on and left out" if self.unfit_rows else ""
        return (
            f"{self.rows} rows (first, longest, random; up to {self.longest_tokens:,} tokens): the prompt is that of "
            f"inference, reasoning and one EOS are learnt{unfit}"
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
    template_name = student.template or f"of {student.model}"
    row_faults.raise_faults(row_faults.of_tokenizer(tokenizer, student), student.model)
    row_faults.raise_faults(row_faults.of_template(tokenizer, tags, eos), f"chat template {template_name}")
    audited: list[AuditedRow] = []
    unfit: list[tuple[str, str]] = []
    for row in sample(set_path, limit, max_length, seed):
        turns = rows.messages(row, set_path)
        example, _, explanation = render(turns)
        if example is None:
            unfit.append((row["trace_id"], explanation))
            continue
        labels = labels_of(example)
        faults = row_faults.of_row(tokenizer, tags, eos, turns, example.ids, labels)
        row_faults.raise_faults(faults, f"{set_path}, row {row['trace_id']}")
        audited.append(_audited_row(tokenizer, row["trace_id"], example.ids, labels, eos))
    if not audited:
        id, explanation = unfit[0] if unfit else ("none", "the set is empty")
        raise RunError(
            f"none of {len(unfit)} sampled rows can be trained on; the first ({id}): {explanation}",
            where=str(set_path),
            fix="do template and think tags of the student's preset fit the traces?",
        )
    return Audit(
        rows=len(audited),
        longest_tokens=max(row.tokens for row in audited),
        unfit_rows=len(unfit),
        warnings=warnings(tokenizer, student, eos),
        example=audited[0],
    )


def sample(path: Path, limit: int | None, max_length: int | None, seed: int) -> Iterator[SetRow]:
    """Rows of a set: the first ones, those with the longest replies below `max_length` tokens and random ones."""
    import pyarrow

    columns = [*rows.COLUMNS, "tokens"]
    source = rows.open_parquet(path, columns)
    sizes = source.read(columns=["tokens"]).column(0).slice(0, limit).to_pylist()
    trainable = [index for index, size in enumerate(sizes) if max_length is None or size < max_length]
    chosen = set(range(min(_FIRST, len(sizes))))
    chosen |= set(sorted(trainable, key=lambda index: (-sizes[index], index))[:_LONGEST])
    chosen |= set(random.Random(seed).sample(range(len(sizes)), min(_RANDOM, len(sizes))))  # noqa: S311
    start = 0
    for group in range(source.num_row_groups):
        end = start + source.metadata.row_group(group).num_rows
        if any(start <= index < end for index in chosen):
            for batch in source.iter_batches(batch_size=256, row_groups=[group], columns=columns):
                offsets = [index - start for index in sorted(chosen) if start <= index < start + batch.num_rows]
                yield from batch.take(pyarrow.array(offsets, pyarrow.int64())).to_pylist()
                start += batch.num_rows
        start = end


def _audited_row(tokenizer: Tokenizer, id: str, ids: Sequence[int], labels: Sequence[int], eos: str) -> AuditedRow:
    learnt = [label for label in labels if label != IGNORED]
    return AuditedRow(
        id=id,
        prompt=text_of(tokenizer, ids[: len(ids) - len(learnt)]),
        learnt=text_of(tokenizer, learnt[:-1]),
        eos=eos,
        tokens=len(ids),
        loss_tokens=len(learnt),
    )


def warnings(tokenizer: Tokenizer, student: Student, eos: str) -> tuple[str, ...]:
    """What does not harm this training, but may harm what follows."""
    texts = []
    if (student.pad or tokenizer.special("pad_token")) == eos:
        texts.append(f"padding and EOS are both {eos}: a trainer that masks padding by its id never learns to stop")
    spelt_tags = [tag for tag in (student.think.open, student.think.close) if len(tokenizer.encode(tag)) != 1]
    if spelt_tags:
        texts.append(
            f"{' and '.join(spelt_tags)} are spelt, not tokens: "
            "vLLM's reasoning parser qwen3 reads that, deepseek_r1 not"
        )
    return tuple(texts)


def check_batch(
    input_ids: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    rows_path: Path,
    position_ids: Sequence[Sequence[int]] | None = None,
) -> int:
    """Check that a batch, padded or packed, consists of whole rows of the built file, with the mask built for them.

    Args:
        input_ids: (rows, tokens); a row is one document and padding, or several documents packed.
        rows_path: the file that `rows.build` wrote.
        position_ids: of a packed batch, from 0 in each document, so that documents do not see one another.

    Returns:
        The number of documents.

    Raises:
        RunError: a document was cut, joined to another, or has another mask.
    """
    documents: list[_Document] = []
    for row_index, (ids, row_labels) in enumerate(zip(input_ids, labels, strict=True)):
        row_documents = _documents_of(ids, row_labels)
        documents += row_documents
        if position_ids is not None:
            _check_positions(position_ids[row_index], [len(ids) for ids, _ in row_documents], row_index)
    unmatched = set(documents)
    sizes = {len(ids) for ids, _ in documents}
    learnt_counts: dict[tuple[int, ...], int] = {}
    for row_ids, row_labels in rows.rows_of_length(rows_path, sizes):
        unmatched.discard((tuple(row_ids), tuple(row_labels)))
        learnt_counts[tuple(row_ids)] = sum(label != IGNORED for label in row_labels)
    for ids, row_labels in documents:
        if (ids, row_labels) not in unmatched:
            continue
        learnt = sum(label != IGNORED for label in row_labels)
        if ids in learnt_counts:
            difference = f"and was built to learn {learnt_counts[ids]:,}"
        else:
            difference = "and no row reads so: it was cut or joined"
        raise RunError(
            f"a document of the first batch is not what was built: it learns {learnt:,} of its {len(ids):,} tokens, "
            + difference,
            where=str(rows_path),
            fix="this is a fault of batching, not of the data: please report it with the versions in run.json",
        )
    return len(documents)


def _documents_of(ids: Sequence[int], labels: Sequence[int]) -> list[_Document]:
    """The documents of a row: each begins where labels go from learnt to ignored; padding is dropped."""
    starts = [
        index for index, label in enumerate(labels) if label == IGNORED and (index == 0 or labels[index - 1] != IGNORED)
    ]
    cuts = sorted({0, *starts, len(ids)})
    documents = [(tuple(ids[begin:end]), tuple(labels[begin:end])) for begin, end in pairwise(cuts)]
    if documents and set(documents[-1][1]) == {IGNORED} and len(set(documents[-1][0])) == 1:
        documents.pop()  # padding
    return documents


def _check_positions(positions: Sequence[int], sizes: Sequence[int], row_index: int) -> None:
    expected = [position for size in sizes for position in range(size)]
    if list(positions[: len(expected)]) != expected:
        raise RunError(
            f"positions in row {row_index} of the first batch do not start again with each document: "
            "it would see others",
            fix="this is a fault of packing, not of the data: please report it with the versions in run.json",
        )
