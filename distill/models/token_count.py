"""Where a text may be cut so that the tokens of its pieces add up to its own, which makes counting fast."""

from __future__ import annotations

import re
from typing import Any

# what the split patterns of GPT-2, GPT-4, Llama 3 and Qwen 2 to 3.5 are made of: none goes on from a word, a number or
# a sign over a blank, from a letter or a digit over another kind of ASCII character, or from a sign over a digit
_SPLITS = "|".join(
    re.escape(part)
    for part in (
        *("'s|'t|'re|'ve|'m|'ll|'d", "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"),
        *(r"[^\r\n\p{L}\p{N}]?\p{L}+", r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+", r" ?\p{L}+"),
        *(r"\p{N}", r"\p{N}{1,3}", r" ?\p{N}+", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"),
        *(r" ?[^\s\p{L}\p{N}]+", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"),
    )
)
# so text may be cut where one of these ends (ADDED stands for the added tokens, all of which begin with `<`)
_PIECE = r"""ADDED
| [ ]?[A-Za-z]++(?![^\x00-\x7f]) | [ ]?[0-9]++(?![^\x00-\x7f])
| [ ]?[^A-Za-z0-9 <\x80-\U0010ffff]++ (?: [A-Za-z]++(?![^\x00-\x7f]) | (?<=\S)(?=[ 0-9]) )
| [\s\S]+? (?: (?=ADDED) | \Z | (?<=\S)(?=[ ]) | (?<=[A-Za-z])(?=[\x00-@\[-`{-\x7f]) | (?<=[0-9])(?=[\x00-/:-\x7f]) )"""


def separable_pattern(tokenizer: dict[str, Any]) -> re.Pattern[str] | None:
    """A pattern for pieces of text whose tokens add up to those of the text; None if a tokenizer (its JSON) has none.

    Only what is known to allow it is accepted: byte-level BPE with known split patterns, no normaliser but NFC, and
    added tokens in angle brackets that do not read the blanks around them.
    """
    steps = tokenizer["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    patterns = [step["pattern"].get("Regex", "") for step in steps if step.get("type") == "Split"]
    last = steps[-1]
    added = tokenizer["added_tokens"]
    separable = (
        tokenizer["model"]["type"] == "BPE"
        and not tokenizer["model"].get("dropout")
        and tokenizer["normalizer"] in (None, {"type": "NFC"})
        and tokenizer["truncation"] is None
        and tokenizer["padding"] is None
        and last.get("type") == "ByteLevel"
        and not last["add_prefix_space"]
        and bool(patterns or last["use_regex"])  # ByteLevel's own pattern is GPT-2's
        and all(step["type"] == "Split" and step["behavior"] == "Isolated" for step in steps[:-1])
        and all(re.fullmatch(rf"(?:{_SPLITS})(?:\|(?:{_SPLITS}))*", pattern) for pattern in patterns)
        and all(re.fullmatch(r"<[^<\s]+", token["content"]) for token in added)
        and not any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added)
        and (tokenizer["normalizer"] is None or not any(token["normalized"] for token in added))
        and len({token["normalized"] for token in added}) < 2
    )
    if not separable:
        return None
    longest_first = sorted((token["content"] for token in added), key=len, reverse=True)
    names = "|".join(map(re.escape, longest_first)) or r"(?!)"
    return re.compile(_PIECE.replace("ADDED", f"(?:{names})"), re.VERBOSE)
