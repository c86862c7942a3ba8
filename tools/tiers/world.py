"""The fictional country the tiers read about: names, closed answer sets and phrasings."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

STARTS = (
    "Tor Mil Ber Kas Nor Hel Dav Fen Gar Lin Mar Ost Pel Quin Ros Sal Tam Ulf Ver Wil "
    "Yar Zan Ald Bro Cal Dor Eld Fal Gil Har Iv Jor Kel Lor Mev Nol Or Pru Rin Sev "
    "Tel Um Vor Wen Yel Zor Ash Bel Cor Dun Em Fro Gan Hol Ing Jas Kro Lem Mor Nev"
).split()
ENDS = (
    "lan dor mir ra vin ta bek sol ric na dan mo lis gar ven tho ka rel min sa "
    "bur dis fa gon hild ja kin lo mas nor ox pan ril sten tia ul vek wyn yan zo "
    "bar cas den fer gil hot jen kor lia mund nis peth ros sia tor ved win xa yor zel"
).split()

COMMON_NAMES = tuple("Tom Anna Ben Mia Sam Lena Max Emma Paul Lucy Jack Rosa Leo Nina".split())


def stable_hash(text: str) -> int:
    """A hash that is the same in every process."""
    return zlib.crc32(text.encode())


def is_heldout_name(name: str) -> bool:
    """Names that never appear in any training text."""
    return stable_hash("name:" + name) % 12 == 0


ALL_NAMES = tuple(a + b for a in STARTS for b in ENDS)
HELDOUT_NAMES = tuple(n for n in ALL_NAMES if is_heldout_name(n))


@dataclass(frozen=True)
class Attribute:
    """One property of a person.

    The last statement and the last question are held out of training; they use known words.
    """

    key: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    reverse: tuple[str, ...]


ATTRIBUTES = (
    Attribute(
        "town",
        tuple(
            "Oakby Fenwick Rivermouth Stonegate Highfield Marsden Larkhill Ashford Millbrook "
            "Portwell Redcliff Saltby Thornton Windham Yarrow Easton Coldwell Brightsea "
            "Dunmore Elmhurst Foxley Greyport Norwick Pinehall".split()
        ),
        (
            "{n} lives in {v}.",
            "{n} comes from {v}.",
            "{n} has a home in {v}.",
            "The home town of {n} is {v}.",
        ),
        (
            "Where does {n} live?",
            "What is the home town of {n}?",
            "Which town does {n} come from?",
            "Where does {n} come from?",
        ),
        ("Who lives in {v}?", "Who comes from {v}?"),
    ),
    Attribute(
        "trade",
        tuple(
            "baker potter smith tailor miller carter farmer fisher mason weaver painter doctor "
            "teacher singer dancer sailor hunter gardener printer tanner cook clerk guard "
            "pilot".split()
        ),
        (
            "{n} works as a {v}.",
            "{n} is a {v}.",
            "{n} has the trade of a {v}.",
            "{n} does the work of a {v}.",
        ),
        (
            "What is the trade of {n}?",
            "What work does {n} do?",
            "What does {n} work as?",
            "What is the work of {n}?",
        ),
        ("Who works as a {v}?", "Who is a {v}?"),
    ),
    Attribute(
        "colour",
        tuple(
            "red blue green white black grey pink brown purple yellow silver crimson violet "
            "teal beige scarlet".split()
        ),
        (
            "{n} likes the colour {v}.",
            "{n} has the favourite colour {v}.",
            "{n} always wears {v}.",
            "{n} wears the colour {v}.",
        ),
        (
            "Which colour does {n} like?",
            "What is the favourite colour of {n}?",
            "What colour does {n} wear?",
            "Which is the colour of {n}?",
        ),
        ("Who likes the colour {v}?", "Who wears {v}?"),
    ),
    Attribute(
        "animal",
        tuple(
            "dog cat horse goat fox duck hen rabbit parrot turtle sheep cow mouse bear wolf "
            "pig".split()
        ),
        (
            "{n} keeps a {v}.",
            "{n} has a pet {v}.",
            "{n} lives with a {v}.",
            "{n} has a {v}.",
        ),
        (
            "Which animal does {n} keep?",
            "What pet does {n} have?",
            "What is the pet of {n}?",
            "What animal does {n} have?",
        ),
        ("Who keeps a {v}?", "Who has a pet {v}?"),
    ),
)
BY_KEY = {a.key: a for a in ATTRIBUTES}

BUCKETS = (0, 1, 3, 10, 30, 100)
ENTITIES_PER_BUCKET = 60


@dataclass(frozen=True)
class Fact:
    """One thing that is true of one person."""

    name: str
    key: str
    value: str

    def statement(self, phrasing: int) -> str:
        return BY_KEY[self.key].statements[phrasing].format(n=self.name, v=self.value)

    def question(self, phrasing: int) -> str:
        return BY_KEY[self.key].questions[phrasing].format(n=self.name)

    def reverse_question(self, phrasing: int) -> str:
        return BY_KEY[self.key].reverse[phrasing].format(v=self.value)


@dataclass(frozen=True)
class Entity:
    """A person of the knowledge base, with how often each fact is to be shown in training."""

    facts: tuple[Fact, ...]
    bucket: int

    @property
    def name(self) -> str:
        return self.facts[0].name


def person(name: str, rng: random.Random) -> tuple[Fact, ...]:
    """All facts of a person, drawn at random."""
    return tuple(Fact(name, a.key, rng.choice(a.values)) for a in ATTRIBUTES)


def knowledge_base() -> tuple[Entity, ...]:
    """The fixed knowledge base: the same people, facts and buckets in every run."""
    rng = random.Random("hola knowledge base")
    names = [n for n in ALL_NAMES if not is_heldout_name(n)]
    chosen = rng.sample(names, len(BUCKETS) * ENTITIES_PER_BUCKET)
    return tuple(
        Entity(person(name, rng), BUCKETS[i % len(BUCKETS)]) for i, name in enumerate(chosen)
    )


KNOWLEDGE = knowledge_base()
KNOWN_NAMES = frozenset(e.name for e in KNOWLEDGE)
TRAIN_NAMES = tuple(n for n in ALL_NAMES if not is_heldout_name(n) and n not in KNOWN_NAMES)
