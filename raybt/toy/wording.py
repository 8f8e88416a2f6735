"""The words of the problems: who, what, and the sentences that carry the numbers."""

import random
from dataclasses import dataclass

SHE = ("Mia", "Anna", "Lily", "Sara", "Nora", "Emma", "Ruth", "Jane", "Ida", "Zoe", "Rosa", "Kate")
HE = ("Tom", "Ben", "Sam", "Leo", "Max", "Paul", "Carl", "Dan", "Omar", "Hugo", "Fred", "Jack")
ITEMS = (
    "apples", "books", "coins", "cards", "pens", "eggs", "shells", "stamps",
    "roses", "balls", "cakes", "nuts", "plums", "rings", "keys", "kites", "shirts", "jewels",
)  # fmt: skip
BOXES = (("boxes", "box"), ("bags", "bag"), ("rows", "row"), ("trays", "tray"), ("jars", "jar"))
MORE = (
    "{they} buys {k} more.",
    "{they} finds {k} more {item}.",
    "{friend} gives {them} {k} {item}.",
    "{they} gets {k} more from {friend}.",
    "{they} adds {k} {item}.",
    "{friend} brings {them} {k} more {item}.",
    "{they} wins {k} {item} in a game.",
)
LESS = (
    "{they} gives {k} to {friend}.",
    "{they} loses {k} {item}.",
    "{they} sells {k} of them.",
    "{friend} takes {k} {item}.",
    "{they} gives away {k} {item}.",
    "{friend} borrows {k} {item}.",
    "{they} throws away {k} old {item}.",
)
PRODUCT = (
    "{name} has {a} {boxes} of {item}. Each {box} holds {b} {item}.",
    "{name} buys {a} {boxes} with {b} {item} in each {box}.",
    "There are {a} {boxes} with {b} {item} in each {box} for {name}.",
    "{name} fills {a} {boxes} and puts {b} {item} into every {box}.",
)
STARTS = (
    "{name} has {s} {item}.",
    "{name} starts with {s} {item}.",
    "There are {s} {item} for {name}.",
    "One day {name} counts {s} {item}.",
)
QUESTIONS = (
    "How many {item} does {name} have now?",
    "How many {item} are there in the end?",
    "How many {item} does {name} have in the end?",
    "Find the number of {item} that {name} has left.",
)


@dataclass(frozen=True)
class Scene:
    name: str
    friend: str
    they: str
    them: str
    item: str


def scene(rng: random.Random) -> Scene:
    she = rng.random() < 0.5
    name = rng.choice(SHE if she else HE)
    friend = rng.choice([other for other in SHE + HE if other != name])
    return Scene(name, friend, *(("she", "her") if she else ("he", "him")), rng.choice(ITEMS))


def open_product(rng: random.Random, where: Scene, a: int, b: int) -> str:
    boxes, box = rng.choice(BOXES)
    return _fill(rng.choice(PRODUCT), where, a=a, b=b, boxes=boxes, box=box)


def open_start(rng: random.Random, where: Scene, s: int) -> str:
    return _fill(rng.choice(STARTS), where, s=s)


def change(rng: random.Random, where: Scene, op: str, k: int, last: bool) -> str:
    sentence = _fill(rng.choice(MORE if op == "+" else LESS), where, k=k)
    link = rng.choice(("", "Then ", "Later ", "After that ") if last else ("", "Then ", "Next "))
    return link + sentence if link else sentence[0].upper() + sentence[1:]


def ask(rng: random.Random, where: Scene) -> str:
    return _fill(rng.choice(QUESTIONS), where)


def _fill(template: str, where: Scene, **numbers: int | str) -> str:
    return template.format(**vars(where), **numbers)
