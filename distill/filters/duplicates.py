"""Duplicates: no trace says what another already says, word for word or nearly.

Near means that the sets of runs of `words` words resemble each other (Jaccard, by MinHash). Digits and signs count, so
another calculation in the same phrases is another trace, and solutions that share only the restated problem are far
apart. Of traces that repeat each other the first that all other checks accept stays, in the order of problem and
sample; a trace that nothing keeps makes no other a duplicate.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from pydantic import Field

from distill.filters import PASS, Candidates, Context, Filter
from distill.text.hashes import ngrams, sequence_hash
from distill.text.minhash import SIZE, estimate_similarity, find_repeats, signatures
from distill.text.tokens import tokens
from distill.types import Outcome, Problem, Record, Trace


class Config(Record):
    similarity: float = Field(0.85, ge=0.5, le=1)
    """Jaccard similarity from which on traces are near duplicates; 1 rejects exact ones and equal sets of runs only."""
    words: int = Field(5, ge=1, le=20)
    """Length of the runs that are compared, in words; in scripts without blanks, in letters."""


class Duplicates(Filter):
    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        return PASS

    def feature(self, problem: Problem, trace: Trace) -> bytes | None:
        """The hash of all words and a MinHash signature, 520 bytes; None if there is no word."""
        import numpy as np

        words = tokens(trace.text).hashes
        if not len(words):
            return None
        runs = ngrams(words, min(self._config.words, len(words)))
        signature = signatures(runs, np.array([0, len(runs)], np.uint64))
        return sequence_hash(words).to_bytes(8, "little") + signature.tobytes()

    def settle(self, candidates: Candidates) -> Iterator[tuple[int, Outcome]]:
        import numpy as np

        # not an object per trace: they may be millions
        features = bytearray()
        numbers = array("q")
        fit = bytearray()
        for candidate in candidates:
            if candidate.feature is not None:
                features += candidate.feature
                numbers.append(candidate.number)
                fit.append(candidate.passes_others)
        records = np.frombuffer(features, np.dtype([("exact", "<u8"), ("signature", "<u4", (SIZE,))]))
        exact = records["exact"]
        signature = records["signature"]
        repeated = find_repeats(
            exact,
            signature,
            np.frombuffer(fit, np.bool_),
            lambda row, other_rows: estimate_similarity(signature, row, other_rows),
            self._config.similarity,
        )
        matches = np.array([*repeated], np.dtype([("row", "<i8"), ("of", "<i8"), ("similarity", "<f4")]))
        names = _names(candidates, set(matches["of"].tolist()))
        for row, original, similarity in matches.tolist():
            reason = "exact_duplicate"
            detail = f"of {names[original]}"
            if exact[row] != exact[original]:
                reason = "near_duplicate"
                detail += f", similarity {similarity:.2f}"
            yield (
                numbers[row],
                Outcome(passed=False, reason=reason, score=round(similarity, 4), detail=detail),
            )


def _names(candidates: Candidates, rows: set[int]) -> dict[int, str]:
    if not rows:  # the ledger of many traces is not read for nothing
        return {}
    compared = (candidate.trace_id for candidate in candidates if candidate.feature is not None)
    return {row: trace_id for row, trace_id in enumerate(compared) if row in rows}


def build(config: Config, context: Context) -> Filter:
    return Duplicates(config)
