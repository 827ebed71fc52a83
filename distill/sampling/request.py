"""Attempts to requests: the prompt, what a cut trace goes on from, and a seed of its own for each."""

from __future__ import annotations

from distill.models.chat import Prompt, Tokenizer
from distill.models.request import Request
from distill.sampling.assemble import Assembler
from distill.sampling.plan import SamplingJob
from distill.sampling.queue import Attempt
from distill.types import Problem, content_id


class RequestBuilder:
    """Makes the requests of one job; a problem's prompt is kept while the problem is sampled."""

    def __init__(self, job: SamplingJob, tokenizer: Tokenizer, assembler: Assembler, takes_ids: bool) -> None:
        self._job = job
        self._tokenizer = tokenizer
        self._assembler = assembler
        self._takes_ids = takes_ids
        self._prompts: dict[str, Prompt] = {}

    def prompt(self, problem: Problem) -> Prompt:
        prompt = self._prompts.get(problem.id)
        if prompt is None:
            prompt = self._tokenizer.prompt(problem.messages, self._job.model.tags, problem.tools)
            if not self._takes_ids:  # a chat engine renders by itself and returns the whole turn
                prompt = prompt.model_copy(update={"prefill": ""})
            self._prompts[problem.id] = prompt
        return prompt

    def forget(self, problem: Problem) -> None:
        """A problem that has ended needs its prompt no more."""
        self._prompts.pop(problem.id, None)

    def request(self, attempt: Attempt, prompt: Prompt) -> Request:
        cut_trace = attempt.trace_so_far
        done_tokens = 0
        endpoint = None
        # content, never a position, seeds a sample: the same attempt has the same seed in any order of problems
        seed_parts: list[object] = [self._job.seed, attempt.id]
        if cut_trace:
            done_tokens = cut_trace.usage.completion
            endpoint = cut_trace.segments[-1].endpoint
            seed_parts.append(len(cut_trace.segments))
        budget = next((end for end in self._job.token_budgets if end > done_tokens), self._job.token_budgets[-1])
        return Request(
            id=attempt.id,
            ids=self._assembler.ids_so_far(prompt, cut_trace),
            sampling=self._job.sampling.model_copy(update={"max_tokens": budget - done_tokens}),
            seed=int(content_id(*seed_parts)[:7], 16),
            messages=attempt.problem.messages,
            tools=attempt.problem.tools,
            affinity=endpoint,
        )
