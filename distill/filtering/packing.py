"""Outcomes and features of checks as they are stored: small enough for a million traces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import orjson

from distill.types import Outcome


def pack_outcomes(outcomes: Mapping[str, Outcome]) -> bytes:
    """Outcomes by check as JSON, each as [passed, reason, score, detail]."""
    return orjson.dumps(
        {name: (outcome.passed, outcome.reason, outcome.score, outcome.detail) for name, outcome in outcomes.items()}
    )


def unpack_outcomes(packed: bytes) -> dict[str, Outcome]:
    return {name: _outcome(*fields) for name, fields in orjson.loads(packed).items()}


@lru_cache(maxsize=1 << 14)
def _outcome(passed: bool | None, reason: str, score: float | None, detail: str) -> Outcome:
    """One object for all equal outcomes: there are ten times as many as traces, and most say the same."""
    return Outcome(passed=passed, reason=reason, score=score, detail=detail)


def outcome_masks(outcomes: Iterable[Outcome]) -> tuple[int, int]:
    """Which checks reject and which are unsure, the first one's bit the lowest."""
    rejects = 0
    unsure = 0
    for position, outcome in enumerate(outcomes):
        rejects |= (outcome.passed is False) << position
        unsure |= (outcome.passed is None) << position
    return rejects, unsure


def pack_features(names: Sequence[str], features: Mapping[str, bytes]) -> bytes:
    """Features one after another, each behind the position of its check and its length."""
    return b"".join(
        bytes([position]) + len(features[name]).to_bytes(2, "big") + features[name]
        for position, name in enumerate(names)
        if name in features
    )


def unpack_features(names: Sequence[str], packed: bytes) -> dict[str, bytes]:
    return {names[position]: packed[start:end] for position, start, end in _feature_spans(packed)}


def feature_at(packed: bytes, position: int) -> bytes | None:
    """The feature of the check at one position."""
    return next((packed[start:end] for other, start, end in _feature_spans(packed) if other == position), None)


def _feature_spans(packed: bytes) -> Iterator[tuple[int, int, int]]:
    """Position of a check, and where its feature begins and ends."""
    offset = 0
    while offset < len(packed):
        start = offset + 3
        offset = start + int.from_bytes(packed[offset + 1 : start], "big")
        yield packed[start - 3], start, offset
