"""Code blocks: the reasoning holds no program; the answer may.

DeepSeek-R1 (section 2.3.3) leaves chains of thought with code blocks out of its distillation set. A block is fenced (as
Markdown has it), or it is some lines on end that all look like a program, one of them like nothing else: assignments,
indentation and braces alone are mathematics too. Inline code is no block.
"""

from __future__ import annotations

import re

from pydantic import Field

from distill.filters import PASS, Context, Filter
from distill.types import Outcome, Problem, Record, Trace

# both begin with the line feed, which makes the search quick
_FENCE = re.compile(r"\n[ \t>*-]*+(?:```|~~~)")
_NAME = r"[A-Za-z_][\w.]*"
_REST = ".{0,200}"  # bounded: a hostile line shall not take quadratic time
_PROGRAM = re.compile(
    rf"""\n[ \t]*+(?=[#a-zS])(?:
        (?:async[ ])?def[ ]{_NAME}\({_REST}:[ \t]*(?:\#{_REST})?$ | class[ ]{_NAME}(?:\({_REST}\))?:[ \t]*$
      | import[ ]{_NAME}(?:[ ]as[ ]\w+)?(?:,[ ]*{_NAME})*[ \t]*;?$ | from[ ]{_NAME}[ ]import[ ][\w*]
      | (?:for|while)[ ]{_REST}(?:range|len|enumerate|input)\({_REST}:[ \t]*$ | while[ ]True:
      | if[ ]__name__[ ]== | (?:print|printf|console\.log|System\.out\.print(?:ln)?)\({_REST}\)[ \t]*;?$
      | \#[ \t]*include[ \t]*[<"] | using[ ]namespace[ ]\w+; | std::
      | (?:public|private|protected|static)[ ][\w<>\[\] ]+\({_REST}\{{
      | (?:int|void|double|bool|long[ ]long)[ ]\w+\({_REST}\)[ ]?\{{?$
      | (?:for|while|if)[ ]?\({_REST}\)[ ]?\{{[ \t]*$
      | function[ ]{_NAME}\({_REST}\)[ ]?\{{ | (?:const|var)[ ]\w+[ ]?={_REST};[ \t]*$
    )""",
    re.VERBOSE | re.MULTILINE,
)
_LIKE_PROGRAM = re.compile(
    rf"""(?:\t|[ ]{{2,}})\S | [@\#] | // | {_REST}[;{{}}]$ | {_NAME}\({_REST}\)$
      | [}}\])]*[ ]?(?:else|elif|try|except|finally|return|break|continue|pass|yield|raise|assert|if|for|while|with)\b
        {_REST}[:;{{\w)\]]$
      | {_NAME}(?:\[{_REST}\])?(?:,[ ]*{_NAME})*[ ]?(?:[-+*/%&|^]|//)?=[ ]?[^=]""",
    re.VERBOSE,
)


class Config(Record):
    fences: int = Field(0, ge=0)
    """Most fenced blocks that are tolerated."""
    lines: int = Field(3, ge=0)
    """Lines of a program without a fence that make a block; 0 looks for fences only."""


class CodeBlockFilter(Filter):
    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        config = self._config
        reasoning = "\n" + (trace.reasoning or "")
        may_have_fences = "`" in reasoning or "~" in reasoning
        fences = list(_FENCE.finditer(reasoning)) if may_have_fences else []
        blocks = (len(fences) + 1) // 2
        if blocks > config.fences:
            return _reject(reasoning[fences[0].start() :], f"{blocks} fenced")
        if blocks or not config.lines:
            return PASS
        program = _unfenced(reasoning, config.lines)
        return _reject(program, "unfenced") if program else PASS


def build(config: Config, context: Context) -> Filter:
    return CodeBlockFilter(config)


def _reject(block: str, kind: str) -> Outcome:
    return Outcome(passed=False, reason="code_block", detail=f"{kind}: {' '.join(block[:200].split())[:60]}")


def _unfenced(text: str, min_lines: int) -> str:
    """The first block of at least so many lines that look like a program; lines are counted without the empty ones."""
    end = 0
    while match := _PROGRAM.search(text, end):
        block = [match[0]]
        end = text.find("\n", match.end())
        while end >= 0:
            line_end = text.find("\n", end + 1)
            line = text[end + 1 : line_end] if line_end >= 0 else text[end + 1 :]
            if line.strip():
                if not _LIKE_PROGRAM.match(line) and not _PROGRAM.match("\n" + line):
                    break
                block.append(line)
            end = line_end
            if len(block) >= min_lines:
                return "\n".join(block)
        if end < 0:
            break
    return ""
