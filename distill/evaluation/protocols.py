"""Ways of measuring that others can repeat: what is sampled, and how often. What a recipe sets itself wins."""

from __future__ import annotations

from typing import Literal

from distill.types import Message, Problem, Record, Sampling

ProtocolName = Literal["r1", "greedy"]
DEFAULT_SAMPLES = 4  # of a problem where neither the recipe nor its protocol says how many; the fewest in R1's paper


class Protocol(Record):
    temperature: float
    top_p: float = 1.0
    max_tokens: int | None = None
    """None: as the teacher's authors advise."""
    samples: int = DEFAULT_SAMPLES
    """Attempts per problem in sets that `samples_of` does not name."""
    samples_of: dict[str, int] = {}
    """Attempts per problem by set."""
    system_prompt: bool = True
    """Whether system messages are kept; False puts what they say at the head of the user's turn."""

    def sampling(self, advice: Sampling) -> Sampling:
        tokens = self.max_tokens or advice.max_tokens
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=tokens)

    def samples_on(self, name: str) -> int:
        """Attempts per problem of a set."""
        return self.samples_of.get(name, self.samples)


PROTOCOLS: dict[ProtocolName, Protocol] = {
    # DeepSeek-R1, arXiv 2501.12948v2, appendix D: temperature 0.6, top-p 0.95, 32,768 tokens; k responses, "typically
    # between 4 and 64", k = 64 for AIME and GPQA, 16 for MATH, 8 for LiveCodeBench. Model card: no system prompt.
    "r1": Protocol(
        temperature=0.6,
        top_p=0.95,
        max_tokens=32768,
        samples_of={"aime24": 64, "aime25": 64, "gpqa-diamond": 64, "math500": 16, "livecodebench": 8},
        system_prompt=False,
    ),
    # one deterministic answer a problem; R1's authors advise against it for long chains, which then loop
    "greedy": Protocol(temperature=0.0, samples=1),
}


def without_system(problem: Problem) -> Problem:
    """The problem with its system messages at the head of the first user turn; itself where it has none."""
    system_texts = [message.content for message in problem.messages if message.role == "system"]
    if not system_texts:
        return problem
    messages = [message for message in problem.messages if message.role != "system"]
    first = next((index for index, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        messages.insert(0, Message(role="user", content="\n\n".join(system_texts)))
    else:
        text = "\n\n".join([*system_texts, messages[first].content])
        messages[first] = messages[first].model_copy(update={"content": text})
    return Problem.make(tuple(messages), **problem.model_dump(exclude={"id", "messages"}))
