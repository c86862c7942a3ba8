"""Word problems over small numbers, each with its worked steps."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tools.tiers.world import stable_hash

OPS = {"+": "Add", "-": "Take away", "*": "Times", "/": "Divide by"}


@dataclass(frozen=True)
class Story:
    """The phrasings of one kind of story; n, m are names, o an object, a, b, x numbers."""

    key: str
    objects: tuple[str, ...]
    start: tuple[str, ...]
    product: tuple[str, ...]
    steps: dict[str, tuple[str, ...]]
    questions: tuple[str, ...]


def _story(key: str, objects: str, **phrasings: str) -> Story:
    """A story from its phrasings, alternatives separated by bars."""
    parts = {k: tuple(p.strip() for p in text.split("|")) for k, text in phrasings.items()}
    steps = {"+": parts["plus"], "-": parts["minus"], "*": parts["times"], "/": parts["share"]}
    return Story(
        key, tuple(objects.split()), parts["start"], parts["product"], steps, parts["question"]
    )


STORIES = (
    _story(
        "collect",
        "shells coins stones stamps cards beads apples marbles",
        start="{n} has {a} {o}. | {n} has {a} {o}. | {n} starts with {a} {o}.",
        product="{n} has {a} boxes with {b} {o} each. | {n} fills {a} bags with {b} {o} each.",
        plus="{n} finds {x} more. | {n} buys {x} more. | {m} gives {n} {x} more {o}.",
        minus="{n} loses {x}. | {n} gives {x} {o} to {m}. | {n} gives {x} to {m}.",
        times="A lucky day makes it {x} times as many. | Then {n} has {x} times as many.",
        share=(
            "{n} shares all of them equally among {x} friends and looks at one share. | "
            "{n} splits them into {x} equal heaps and keeps one."
        ),
        question=(
            "How many {o} does {n} have now? | How many {o} does {n} have? | "
            "How many {o} are there at the end?"
        ),
    ),
    _story(
        "bus",
        "people children workers",
        start="A bus has {a} {o} on it. | {n} drives a bus with {a} {o}.",
        product="A bus has {a} rows with {b} {o} each.",
        plus="At the stop {x} more get on. | Then {x} {o} get on.",
        minus="At the stop {x} get off. | Then {x} {o} get off.",
        times="In the city there are {x} times as many on it.",
        share="The {o} change into {x} buses in equal groups and {n} drives one.",
        question="How many {o} are on the bus now? | How many {o} ride on the bus of {n}?",
    ),
    _story(
        "kitchen",
        "buns pies cakes rolls eggs",
        start="{n} has {a} {o} in the kitchen. | There are {a} {o} on the table of {n}.",
        product="{n} bakes {a} trays of {b} {o}. | There are {a} plates with {b} {o} each.",
        plus="{n} makes {x} more. | {m} brings {x} {o}.",
        minus="{n} eats {x}. | {m} takes {x} {o} away.",
        times="For a feast {n} makes it {x} times as many.",
        share="{n} puts them on {x} plates equally and serves one plate.",
        question="How many {o} are there now? | How many {o} does {n} have?",
    ),
    _story(
        "farm",
        "sheep cows hens goats ducks",
        start="{n} keeps {a} {o} on a farm. | A farm has {a} {o}.",
        product="A farm has {a} barns with {b} {o} each.",
        plus="{n} buys {x} more. | In spring {x} {o} are born.",
        minus="{n} sells {x}. | In winter {x} {o} run away.",
        times="After some years there are {x} times as many.",
        share="{n} divides the {o} equally among {x} fields and counts one field.",
        question="How many {o} are there now? | How many {o} does {n} count?",
    ),
    _story(
        "money",
        "coins",
        start="{n} has {a} coins in a purse. | {n} saves {a} coins.",
        product="{n} works {a} days for {b} coins a day. | {n} sells {a} hats for {b} coins each.",
        plus="{n} earns {x} coins. | {m} pays {n} {x} coins.",
        minus="{n} spends {x} coins. | {n} pays {x} coins for bread.",
        times="A good trade makes it {x} times as much.",
        share="{n} splits the money equally with friends, {x} people in all, and keeps one part.",
        question="How many coins does {n} have now? | How much money is left?",
    ),
    _story(
        "books",
        "pages",
        start="{n} reads {a} pages on the first day. | {n} has read {a} pages.",
        product="{n} reads {a} pages a day for {b} days.",
        plus="The next day {n} reads {x} more pages. | {n} reads {x} pages at night.",
        minus="{n} finds that {x} pages do not count. | {n} skips {x} of these pages.",
        times="By the end of the month it is {x} times as many.",
        share="The pages make {x} equal chapters and {n} looks at one chapter.",
        question="How many pages is that? | How many pages does {n} count?",
    ),
    _story(
        "garden",
        "roses trees plants bushes",
        start="{n} has {a} {o} in the garden. | A garden has {a} {o}.",
        product="{n} plants {a} rows of {b} {o}. | A garden has {a} rows with {b} {o} each.",
        plus="{n} plants {x} more. | {m} adds {x} {o}.",
        minus="{n} cuts down {x}. | A storm takes {x} {o}.",
        times="A year later there are {x} times as many.",
        share="The {o} stand in {x} equal beds and {n} waters one bed.",
        question="How many {o} are there now? | How many {o} does {n} water?",
    ),
    _story(
        "shop",
        "pens cups lamps ropes shirts",
        start="The shop of {n} has {a} {o}. | A shop starts the day with {a} {o}.",
        product="A shop gets {a} boxes of {b} {o}. | {n} puts {a} {o} on each of {b} shelves.",
        plus="A cart brings {x} more. | {m} delivers {x} {o}.",
        minus="{m} buys {x}. | The shop sells {x} {o}.",
        times="For the market {n} orders until there are {x} times as many.",
        share="{n} spreads the {o} equally over {x} shelves and looks at one shelf.",
        question="How many {o} are left in the shop? | How many {o} are there?",
    ),
)
# New sentences made of words that the other stories use.
HELDOUT_STORIES = (
    _story(
        "market",
        "cups coins beads",
        start="{n} brings {a} {o} to the market. | At the market {n} has {a} {o}.",
        product="{n} puts {b} {o} in each of {a} boxes.",
        plus="{m} brings {n} {x} {o} more. | Then {n} buys {x} {o}.",
        minus="{n} sells {x} of the {o}. | {x} of the {o} are lost.",
        times="A good day makes it {x} times as much.",
        share="{n} shares the {o} equally among {x} children and keeps one share.",
        question="How many {o} does {n} keep? | How many {o} are left now?",
    ),
    _story(
        "field",
        "cows trees",
        start="There are {a} {o} on a field. | A field of {n} has {a} {o}.",
        product="There are {a} fields with {b} {o} each.",
        plus="{n} adds {x} more {o}. | In spring {m} brings {x} more.",
        minus="Then {n} takes {x} {o} away. | In winter {n} loses {x} {o}.",
        times="A year later {n} has {x} times as many {o}.",
        share="{n} divides them equally into {x} groups and keeps one.",
        question="How many {o} are on the field now? | How many {o} does {n} have at the end?",
    ),
)


@dataclass(frozen=True)
class Problem:
    """One problem: its text, worked answer, and what it is made of."""

    story: str
    plan: str
    numbers: tuple[int, ...]
    question: str
    reasoning: str
    answer: str

    @property
    def text(self) -> str:
        return f"{self.reasoning} The answer is {self.answer}."


def apply(op: str, total: int, x: int) -> int | None:
    """The next total, or None where the step would leave the small numbers."""
    if op == "+":
        return total + x
    if op == "-":
        return total - x if total > x else None
    if op == "*":
        return total * x if total <= 20 and 2 <= x <= 5 else None
    return total // x if x <= 9 and total % x == 0 and total <= 72 and total > x else None


def is_heldout_plan(plan: str) -> bool:
    """Combinations of three and more steps that never appear in training."""
    ops = len(plan) if plan[0] == "p" else len(plan) - 1
    return ops >= 3 and stable_hash("plan:" + plan) % 6 == 0


def is_heldout_numbers(plan: str, numbers: tuple[int, ...]) -> bool:
    """Tuples of numbers that never appear with this plan in training."""
    return stable_hash(f"numbers:{plan}:{numbers}") % 12 == 0


def random_plan(rng: random.Random, max_ops: int) -> str:
    """A start (s: one number, p: a product) and the operations that follow it."""
    ops = rng.randint(1, max_ops)
    start = "p" if rng.random() < 0.3 else "s"
    rest = [rng.choice("+-") for _ in range(ops - (start == "p"))]
    if rest and rng.random() < 0.35:
        rest[rng.randrange(len(rest))] = rng.choice("*/")
    return start + "".join(rest)


def random_numbers(plan: str, rng: random.Random) -> tuple[int, ...] | None:
    """Numbers that fit the plan, or None when this draw does not."""
    small = "*" in plan
    if plan[0] == "p":
        numbers = [rng.randint(2, 9), rng.randint(2, 4 if small else 9)]
        total = numbers[0] * numbers[1]
    else:
        numbers = [rng.randint(2, 12 if small else 60)]
        total = numbers[0]
    for op in plan[1:]:
        x = rng.randint(2, 9 if op in "*/" or small else 40)
        after = apply(op, total, x)
        if after is None:
            return None
        numbers.append(x)
        total = after
    return tuple(numbers)


def worked_steps(plan: str, numbers: tuple[int, ...]) -> tuple[str, int]:
    """The worked steps as text, and the result."""
    if plan[0] == "p":
        total = numbers[0] * numbers[1]
        parts = [f"Start with {numbers[0]} times {numbers[1]}: {numbers[0]}*{numbers[1]}={total}."]
        rest = numbers[2:]
    else:
        total = numbers[0]
        parts = [f"Start with {total}."]
        rest = numbers[1:]
    for op, x in zip(plan[1:], rest, strict=True):
        after = apply(op, total, x)
        if after is None:
            raise ValueError(f"{numbers} does not fit plan {plan}")
        parts.append(f"{OPS[op]} {x}: {total}{op}{x}={after}.")
        total = after
    return " ".join(parts), total


def add_step(
    sentences: list[str],
    shape: str,
    x: int,
    slots: dict[str, object],
    pronoun: str,
    rng: random.Random,
) -> None:
    """Add one step, with the name, with a pronoun, or joined to the sentence before."""
    chance = rng.random()
    if not pronoun or not shape.startswith("{n} ") or chance < 0.4:
        sentences.append(shape.format(x=x, **slots))
    elif chance < 0.6 and len(sentences) > 1 and sentences[-1].startswith(pronoun):
        sentences[-1] = sentences[-1][:-1] + shape.removeprefix("{n}").replace(
            " ", " and ", 1
        ).format(x=x, **slots)
    else:
        sentences.append(shape.replace("{n}", pronoun, 1).format(x=x, **slots))


def tell(
    story: Story, plan: str, numbers: tuple[int, ...], names: list[str], rng: random.Random
) -> Problem:
    """Write one problem out."""
    slots: dict[str, object] = {"n": names[0], "m": names[1], "o": rng.choice(story.objects)}
    if plan[0] == "p":
        shape = rng.choice(story.product)
        first = shape.format(a=numbers[0], b=numbers[1], **slots)
        rest = numbers[2:]
    else:
        shape = rng.choice(story.start)
        first = shape.format(a=numbers[0], **slots)
        rest = numbers[1:]
    sentences = [first]
    pronoun = ("She" if names[0][-1] in "ay" else "He") if "{n}" in shape else ""
    for op, x in zip(plan[1:], rest, strict=True):
        add_step(sentences, rng.choice(story.steps[op]), x, slots, pronoun, rng)
    sentences.append(rng.choice(story.questions).format(**slots))
    reasoning, total = worked_steps(plan, numbers)
    return Problem(story.key, plan, numbers, " ".join(sentences), reasoning, str(total))


def draw(
    rng: random.Random,
    names: list[str],
    *,
    stories: tuple[Story, ...] = STORIES,
    max_ops: int = 4,
    heldout: bool = False,
    new_plan: bool = False,
) -> Problem:
    """One problem; held-out ones have numbers (and, on request, a plan) unseen in training."""
    while True:
        plan = random_plan(rng, max_ops)
        if is_heldout_plan(plan) != new_plan:
            continue
        for _ in range(200):
            numbers = random_numbers(plan, rng)
            if numbers is not None and is_heldout_numbers(plan, numbers) == heldout:
                return tell(rng.choice(stories), plan, numbers, names, rng)
