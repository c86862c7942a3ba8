"""The training text: an endless, seeded mix of small documents, each with loss weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tools.tiers import problems
from tools.tiers.world import (
    ATTRIBUTES,
    BY_KEY,
    COMMON_NAMES,
    KNOWLEDGE,
    TRAIN_NAMES,
    Fact,
    person,
)

USER, ASSISTANT, BOS, EOS, PAD = (
    "<|user|>",
    "<|assistant|>",
    "<|bos|>",
    "<|eos|>",
    "<|pad|>",
)
PROMPT_WEIGHT = 0.08
TRAIN_PHRASINGS = 3
HELD_PHRASING = 3
LETTERS = "ABCD"
PEOPLE = ((1, 2, 2, 3), (1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 7))
FACTS = tuple(f for e in KNOWLEDGE for f in e.facts)

Segment = tuple[str | list[int], float]


@dataclass
class Document:
    """Pieces of text (or token ids) with loss weights, and the facts they expose."""

    task: str
    segments: list[Segment]
    facts: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Turn:
    """One question with the text expected in reply."""

    prompt: str
    reference: str
    answer: str


def conversation(task: str, turns: Sequence[Turn], facts: list[int] | None = None) -> Document:
    """The chat form the runtime uses; only what the assistant says has full weight."""
    segments: list[Segment] = [(BOS, 0.0)]
    for turn in turns:
        segments += [
            (USER, 0.0),
            (turn.prompt, PROMPT_WEIGHT),
            (ASSISTANT, 0.0),
            (turn.reference, 1.0),
            (EOS, 1.0),
        ]
    return Document(task, segments, facts or [])


def plain(task: str, segments: list[Segment], facts: list[int] | None = None) -> Document:
    """Running text without roles."""
    return Document(task, [(BOS, 0.0), *segments, (EOS, 1.0)], facts or [])


def sum_fact(rng: random.Random) -> tuple[str, str]:
    """One arithmetic fact, left and right side."""
    op = rng.choice("++--*/")
    if op == "*":
        a, b = rng.randint(2, 20), rng.randint(2, 9)
        if a > 9 and b > 5:
            a = rng.randint(2, 9)
        return f"{a}*{b}", str(a * b)
    if op == "/":
        a, b = rng.randint(2, 12), rng.randint(2, 9)
        return f"{a * b}/{b}", str(a)
    a, b = rng.randint(1, 120), rng.randint(1, 40)
    if op == "+":
        return f"{a}+{b}", str(a + b)
    return f"{max(a, b + 1)}-{b}", str(max(a, b + 1) - b)


def drill(rng: random.Random, level: int) -> Document:
    """Arithmetic facts, as a list or as questions."""
    if rng.random() < 0.7:
        segments: list[Segment] = []
        for i in range(rng.randint(6, 12)):
            left, right = sum_fact(rng)
            segments += [((" " if i else "") + left, 0.02), (f"={right}.", 1.0)]
        return plain("drill", segments)
    turns = []
    for _ in range(rng.randint(1, 3)):
        left, right = sum_fact(rng)
        turns.append(
            Turn(f"Question: What is {left}?", f"{left}={right}. The answer is {right}.", right)
        )
    return conversation("drill", turns)


def word_problem(rng: random.Random, level: int) -> Document:
    """One word problem with worked steps."""
    most = 2 if level < 2 else 4
    names = rng.sample(COMMON_NAMES if rng.random() < 0.2 else TRAIN_NAMES, 2)
    p = problems.draw(rng, names, max_ops=most)
    return conversation("word_problem", [Turn("Question: " + p.question, p.text, p.answer)])


@dataclass(frozen=True)
class Passage:
    """Sentences about a few people, as one or several passages of a prompt."""

    lines: tuple[str, ...]
    sentences: dict[Fact, str]


def passage(
    rng: random.Random, names: Sequence[str], most_facts: int, phrasings: Sequence[int]
) -> Passage:
    """Write a passage about the named people."""
    people = [
        rng.sample(person(name, rng), rng.randint(min(2, most_facts), most_facts)) for name in names
    ]
    said = {f: f.statement(rng.choice(phrasings)) for facts in people for f in facts}
    return lay_out(rng, people, said)


def parallel_passage(rng: random.Random, names: Sequence[str], kinds: int) -> Passage:
    """A passage that says the same kinds of things of everybody in the same words."""
    attributes = rng.sample(range(len(ATTRIBUTES)), kinds)
    phrasing = rng.randrange(TRAIN_PHRASINGS)
    everybody = [person(name, rng) for name in names]
    people = [[facts[a] for a in attributes] for facts in everybody]
    return lay_out(rng, people, {f: f.statement(phrasing) for facts in people for f in facts})


def lay_out(
    rng: random.Random, people: Sequence[Sequence[Fact]], sentences: dict[Fact, str]
) -> Passage:
    """One passage for each person, or one for all, in order or mixed."""
    groups = [[sentences[f] for f in facts] for facts in people]
    layout = rng.random()
    if layout < 0.45:
        lines = tuple(" ".join(g) for g in groups)
    else:
        everything = [s for g in groups for s in g]
        if layout > 0.8:
            rng.shuffle(everything)
        lines = (" ".join(everything),)
    return Passage(lines, sentences)


def ask(rng: random.Random, text: Passage, phrasings: Sequence[int], reverse: float) -> Turn:
    """A question whose answer stands in the passage (prompt without the passage)."""
    fact = rng.choice(list(text.sentences))
    same = [f for f in text.sentences if (f.key, f.value) == (fact.key, fact.value)]
    if rng.random() < reverse and len(same) == 1:
        question = fact.reverse_question(rng.randrange(len(BY_KEY[fact.key].reverse)))
        answer = fact.name
    else:
        question = fact.question(rng.choice(phrasings))
        answer = fact.value
    reference = f"It says: {text.sentences[fact]} The answer is {answer}."
    return Turn(f"Question: {question}", reference, answer)


def with_passage(text: Passage, turn: Turn) -> Turn:
    """Put the passages before the question."""
    lines = "\n".join("Passage: " + line for line in text.lines)
    return Turn(f"{lines}\n{turn.prompt}", turn.reference, turn.answer)


def reading(rng: random.Random, level: int) -> Document:
    """A passage with a few questions on it."""
    people = 1 if level == 0 else rng.choice(PEOPLE[min(level, 2) - 1])
    known = range(TRAIN_PHRASINGS)
    if level >= 2 and rng.random() < 0.6:
        text = parallel_passage(rng, rng.sample(TRAIN_NAMES, rng.randint(2, 4)), rng.randint(1, 2))
    else:
        text = passage(rng, rng.sample(TRAIN_NAMES, people), 3 if people < 3 else 2, known)
    turns = [ask(rng, text, known, 0.15) for _ in range(rng.randint(3, 5))]
    return conversation("reading", [with_passage(text, turns[0]), *turns[1:]])


def recall(rng: random.Random, level: int) -> Document:
    """Practice in telling people apart: a passage, then its sentences in another order.

    Only the values are learned, and only the name tells which value is right.
    """
    text = parallel_passage(rng, rng.sample(TRAIN_NAMES, rng.randint(2, 4)), rng.choice((1, 1, 2)))
    lines = "\n".join("Passage: " + line for line in text.lines)
    segments: list[Segment] = [
        (BOS, 0.0),
        (USER, 0.0),
        (f"{lines}\nQuestion: What does it say?", 0.0),
        (ASSISTANT, 0.0),
        ("It says:", 0.0),
    ]
    facts = list(text.sentences)
    for _ in range(2):
        rng.shuffle(facts)
        for fact in facts:
            before, after = text.sentences[fact].rsplit(" " + fact.value, 1)
            segments += [(" " + before, 0.0), (" " + fact.value, 1.0), (after, 0.0)]
    return Document("recall", segments)


def options(answer: str, others: Sequence[str], rng: random.Random) -> tuple[str, str]:
    """The four options as text, and the letter of the right one."""
    pool = [answer, *rng.sample([o for o in dict.fromkeys(others) if o != answer], 3)]
    rng.shuffle(pool)
    lines = "\n".join(f"{LETTERS[i]}) {o}" for i, o in enumerate(pool))
    return lines, LETTERS[pool.index(answer)]


def as_choice(turn: Turn, others: Sequence[str], rng: random.Random) -> Turn:
    """Turn an open question into one with four options."""
    lines, letter = options(turn.answer, others, rng)
    evidence = turn.reference.rsplit("The answer is", 1)[0]
    reference = f"{evidence}{turn.answer} is {letter}. The answer is {letter}."
    return Turn(f"{turn.prompt}\n{lines}", reference, letter)


def near_numbers(answer: str, rng: random.Random) -> list[str]:
    """Wrong options for a number."""
    value = int(answer)
    offsets = rng.sample([d for d in range(-12, 13) if d and value + d > 0], 3)
    return [str(value + d) for d in offsets]


def choice_of_sum(rng: random.Random) -> Turn:
    """Multiple choice over arithmetic."""
    left, right = sum_fact(rng)
    turn = Turn(f"Question: What is {left}?", f"{left}={right}. The answer is {right}.", right)
    return as_choice(turn, near_numbers(right, rng), rng)


def choice_of_reading(rng: random.Random, names: Sequence[str], phrasings: Sequence[int]) -> Turn:
    """Multiple choice over a passage."""
    text = passage(rng, names, 3, phrasings)
    turn = ask(rng, text, phrasings, 0.0)
    values = next(a.values for a in ATTRIBUTES if turn.answer in a.values)
    return as_choice(with_passage(text, turn), values, rng)


def choice(rng: random.Random, level: int) -> Document:
    """Multiple choice over arithmetic or a passage."""
    kind = rng.random()
    if kind < 0.4:
        turns = [lettering(rng) for _ in range(rng.randint(1, 2))]
    elif kind < 0.7:
        turns = [choice_of_sum(rng) for _ in range(rng.randint(1, 2))]
    else:
        names = rng.sample(TRAIN_NAMES, rng.randint(1, 2))
        turns = [choice_of_reading(rng, names, range(TRAIN_PHRASINGS))]
    return conversation("choice", turns)


def prose(rng: random.Random, level: int) -> Document:
    """Plain sentences about passing people."""
    people = rng.sample(TRAIN_NAMES, rng.randint(1, 2))
    sentences = passage(rng, people, 3, range(TRAIN_PHRASINGS)).sentences.values()
    return plain("prose", [(" ".join(sentences), 0.3)])


def repeats(rng: random.Random, ids: Sequence[int]) -> Document:
    """Random tokens, several times; only the first time is not learned."""
    tokens = rng.choices(ids, k=rng.randint(4, 32))
    times = rng.randint(1, 3)
    return Document("repeats", [(tokens, 0.0), (tokens * times, 1.0)])


def lettering(rng: random.Random) -> Turn:
    """Name the letter of every option, for practice."""
    kind = rng.random()
    values: Sequence[str] = rng.choice(ATTRIBUTES).values
    if kind < 0.5:
        values = [str(n) for n in rng.sample(range(1, 150), 8)]
    pool = rng.sample(values, 4)
    lines = "\n".join(f"{letter}) {o}" for letter, o in zip(LETTERS, pool, strict=True))
    order = rng.sample(range(4), 4)
    said = " ".join(f"{pool[i]} is {LETTERS[i]}." for i in order)
    return Turn(f"Question: Which letters?\n{lines}", f"It says: {said}", "")


def knowledge_turn(fact: Fact, phrasing: int) -> Turn:
    """A question about the knowledge base, without a passage."""
    return Turn(f"Question: {fact.question(phrasing)}", f"The answer is {fact.value}.", fact.value)


def knowledge_choice(fact: Fact, phrasing: int, rng: random.Random) -> Turn:
    """Multiple choice over the knowledge base; the fact is recalled first."""
    turn = Turn(
        f"Question: {fact.question(phrasing)}",
        f"I know: {fact.statement(0)} The answer is {fact.value}.",
        fact.value,
    )
    return as_choice(turn, BY_KEY[fact.key].values, rng)


def knowledge(rng: random.Random, queue: list[int]) -> Document:
    """Show the next few facts of the exposure queue."""
    form = rng.random()
    take = queue[: 1 if form > 0.88 else 4]
    facts = [FACTS[i] for i in take]
    if form < 0.6:
        turns = [knowledge_turn(f, rng.randrange(TRAIN_PHRASINGS)) for f in facts]
        return conversation("knowledge", turns, take)
    if form > 0.88:
        turns = [knowledge_choice(f, rng.randrange(TRAIN_PHRASINGS), rng) for f in facts]
        return conversation("knowledge", turns, take)
    segments: list[Segment] = []
    for i, fact in enumerate(facts):
        text = fact.statement(rng.randrange(TRAIN_PHRASINGS))
        before, after = text.rsplit(" " + fact.value, 1)
        segments += [((" " if i else "") + before, 0.2), (f" {fact.value}{after}", 1.0)]
    return plain("knowledge", segments, take)


def exposure_queue() -> list[int]:
    """Every exposure of every fact, spread evenly over the whole of training."""
    rng = random.Random("exposure queue")
    timed: list[tuple[float, int]] = []
    number = 0
    for entity in KNOWLEDGE:
        for _ in entity.facts:
            n = entity.bucket
            timed += [((i + rng.random()) / n, number) for i in range(n)]
            number += 1
    return [fact for _, fact in sorted(timed)]


Maker = Callable[[random.Random, int], Document]
MAKERS: dict[str, Maker] = {
    "drill": drill,
    "word_problem": word_problem,
    "reading": reading,
    "recall": recall,
    "choice": choice,
    "prose": prose,
}
# Three stages of the curriculum, then what the tiers settle on.
MIXES: tuple[dict[str, float], ...] = (
    {"repeats": 0.90, "drill": 0.07, "reading": 0.03},
    {"repeats": 0.18, "drill": 0.30, "word_problem": 0.22, "reading": 0.28, "choice": 0.02},
    {
        "repeats": 0.02,
        "drill": 0.08,
        "word_problem": 0.20,
        "reading": 0.22,
        "recall": 0.36,
        "choice": 0.11,
        "prose": 0.01,
    },
    {
        "repeats": 0.02,
        "drill": 0.12,
        "word_problem": 0.38,
        "reading": 0.33,
        "choice": 0.14,
        "prose": 0.01,
    },
)


def documents(
    seed: int,
    start: int,
    level: Callable[[], int],
    ids: Sequence[int],
) -> Iterator[Document]:
    """Documents from number `start` on; each depends on the seed, its number and the level."""
    number = start
    while True:
        rng = random.Random(f"{seed}:{number}")
        mix = MIXES[level()]
        task = rng.choices(list(mix), weights=list(mix.values()))[0]
        if task == "repeats":
            yield repeats(rng, ids)
        else:
            yield MAKERS[task](rng, level())
        number += 1
