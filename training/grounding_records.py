"""Contexts and statements from structured records: both come from the same facts, so the label is sure.

A record draws one state of each fact and a value for each slot. The context says some of the facts; a statement says
one to four of them in other words. An unsupported statement differs in one fact: the fact's other state, a value
exchanged for another of its type, or a fact that the context does not tell. Texts of the two labels are drawn from
the same wordings and values, so that a text alone can't give its label away.
"""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from training.marks import differing, false, plain, unmarked, unsure

Row = dict[str, Any]
Fact = tuple[int, int]
PARTS = Path(__file__).parent / "grounding_parts"
TYPED = re.compile(r"\{(\w+):(\w+)\}")
SLOT = re.compile(r"\{(\w+)(?::\w+)?\}")
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
# Lowest and highest value of the types that are numbers.
RANGES = {"num": (3, 60), "small": (2, 9), "age": (18, 95), "year": (1950, 2024), "percent": (2, 48)}
PLAIN = re.compile(
    r"(?:The|They|There|Their|This|That|An?|Its?|If|In|On|At|By|For|Until|After|Because|While|More|Most|Not?)\b"
)
PEOPLE = ("person", "fullname")
FIRST = re.compile("[^\ue000-\ue003]")


def load(name: str) -> dict[str, Any]:
    """Read one part file."""
    with (PARTS / name).open(encoding="utf-8") as file:
        parts: dict[str, Any] = yaml.safe_load(file)
    return parts


def split(text: str, at: str = ";") -> list[str]:
    """Values of a list written in one line."""
    return [value.strip() for value in text.split(at)]


def raised(text: str) -> str:
    """The text with a capital first letter."""
    return FIRST.sub(lambda first: first[0].upper(), text, count=1)


def lowered(text: str) -> str:
    """The text with its first letter small, unless it begins with a name."""
    return FIRST.sub(lambda first: first[0].lower(), text, count=1) if PLAIN.match(plain(text)) else text


class Writer:
    """Writes records of all scenarios.

    Args:
        draw: source of all randomness.
    """

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        parts = load("values.yaml")
        self.values = {kind: split(text) for kind, text in parts["values"].items()}
        self.fillers = {
            key: {form: split(text) for form, text in parts[key].items()} for key in ("opener", "filler", "closer")
        }
        self.joiners = split(parts["joiner"])
        self.scenarios = {**load("scenarios.yaml"), **load("scenarios_news.yaml")}

    def rows(self, of_each: int = 2) -> list[Row]:
        """Statements of both labels, ``of_each`` of each, about one new context."""
        name = self.draw.choice(list(self.scenarios))
        record = Record(self, self.scenarios[name])
        context = record.context()
        result = []
        for label in (0, 1) * of_each:
            marked, edit = record.statement(label)
            text, wrong, open_ = unmarked(marked)
            labels: dict[str, Any] = {"edit": edit, "domain": name}
            if label:
                labels |= {"false": wrong, "unsure": open_}
            result.append(
                {
                    "context": context,
                    "text": text,
                    "label": label,
                    "labels": labels,
                    "source": "grounding_records",
                    "lang": "en",
                }
            )
        return result

    def fresh(self, kind: str) -> Any:
        """A new value of a type; numbers stay numbers until they are written."""
        draw = self.draw
        if kind in RANGES:
            return draw.randint(*RANGES[kind])
        makers: dict[str, Callable[[], Any]] = {
            "million": lambda: draw.randint(11, 980) / draw.choice([1, 1, 10]),
            "thousand": lambda: draw.randint(11, 990) * 100,
            "price": lambda: draw.choice([draw.randint(9, 99), draw.randint(100, 999), draw.randint(11, 48) * 100]),
            "eps": lambda: draw.randint(8, 390) / 100,
            "time": lambda: (draw.randint(7, 21), draw.choice([0, 15, 30, 30, 45])),
            "date": lambda: f"{draw.randint(1, 28)} {self.pick('month')}",
            "person": lambda: self.pick("first"),
            "fullname": lambda: f"{self.pick('first')} {self.pick('last')}",
            "town": lambda: self.pick("town_stems") + self.pick("town_ends"),
            "company": lambda: self.pick("company_form").strip('"').replace("{n}", self.pick("company_noun")),
        }
        return makers[kind]() if kind in makers else self.pick(kind)

    def pick(self, name: str) -> str:
        """One of the written values of a list."""
        return self.draw.choice(self.values[name])

    def write(self, kind: str, value: Any, *, plain: bool) -> str:
        """A value in words; a statement (not ``plain``) may write it in another way than the context."""
        if not plain and self.draw.random() < 0.4:
            return self.otherwise(kind, value)
        if kind == "time":
            hour, minute = value
            return f"{(hour - 1) % 12 + 1}:{minute:02d} {'am' if hour < 12 else 'pm'}"
        forms = {
            "percent": "{} percent",
            "million": "${:g} million",
            "thousand": "{:,}",
            "price": "${:,}",
            "eps": "${:.2f}",
        }
        return forms.get(kind, "{}").format(value)

    def otherwise(self, kind: str, value: Any) -> str:
        """A value as it may be written elsewhere: in words, in another unit or order, or a family name alone."""
        if kind in ("num", "small", "age"):
            return NUMBERS[value] if value < len(NUMBERS) else str(value)
        if kind == "thousand":
            return f"{value / 1000:g} thousand" if value % 1000 == 0 else f"{value:,}"
        if kind == "eps" and value >= 1:
            return f"${value:.2f}"
        words: dict[str, Callable[[], str]] = {
            "percent": lambda: f"{value}%",
            "million": lambda: f"{value:g} million dollars",
            "price": lambda: f"{value:,} dollars",
            "eps": lambda: f"{value * 100:.0f} cents",
            "time": lambda: f"{value[0]}:{value[1]:02d}",
            "date": lambda: " ".join(value.split()[::-1]),
            "fullname": lambda: str(value.split()[-1]),
        }
        return words[kind]() if kind in words else str(value)


class Record:
    """The facts of one context."""

    def __init__(self, writer: Writer, scenario: dict[str, Any]) -> None:
        self.writer, self.draw, self.form = writer, writer.draw, scenario["form"]
        self.facts: list[list[dict[str, Any]]] = scenario["facts"]
        told = [state["s"] for fact in self.facts for state in fact]
        self.types = {name: kind for text in told for name, kind in TYPED.findall(text)}
        self.values: dict[str, Any] = {}
        for name, kind in self.types.items():
            # Two people must differ in the family name too, since a statement may give that alone.
            taken = {str(self.values[other]).split()[-1] for other in self.values if self.types[other] == kind}
            value = writer.fresh(kind)
            for _ in range(20):
                if str(value).split()[-1] not in taken:
                    break
                value = writer.fresh(kind)
            self.values[name] = value
        self.states = [self.draw.randrange(len(fact)) for fact in self.facts]
        orders = scenario.get("order", "").split()
        for fact, state in zip(self.facts, self.states, strict=True):
            orders += fact[state].get("o", "").split()
        for order in orders:
            names = order.split("<")
            for name, value in zip(names, sorted(self.values[name] for name in names), strict=True):
                self.values[name] = value
        count = self.draw.randint(min(4, len(self.facts)), min(10, len(self.facts)))
        self.told = sorted(self.draw.sample(range(len(self.facts)), count))
        self.untold = [index for index in range(len(self.facts)) if index not in self.told]

    def fill(self, text: str, values: dict[str, Any], *, plain: bool) -> str:
        """A wording with its slots filled; a value that is not the record's own is marked as false."""

        def written(slot: re.Match[str]) -> str:
            value = self.writer.write(self.types[slot[1]], values[slot[1]], plain=plain)
            return value if values[slot[1]] == self.values[slot[1]] else false(value)

        return SLOT.sub(written, text)

    def context(self) -> str:
        """What the record's told facts read like."""
        draw, writer = self.draw, self.writer
        parts = [self.fill(self.facts[index][self.states[index]]["s"], self.values, plain=True) for index in self.told]
        if self.form == "dialogue":
            lines = [line for part in parts for line in split(part, " / ")]
            people = [str(value) for name, value in self.values.items() if self.types[name] in PEOPLE]
            for _ in range(draw.choice([0, 0, 1, 2])):
                words = draw.choice(writer.fillers["filler"]["dialogue"]).split("}: ")[-1].strip('"')
                lines.insert(draw.randint(0, len(lines)), f"{draw.choice(people[:3])}: {words}")
            return "\n".join(lines)
        opener, closer = (draw.choice(writer.fillers[key][self.form]).strip('"') for key in ("opener", "closer"))
        for _ in range(draw.choice([0, 1, 2])):
            parts.insert(draw.randint(0, len(parts)), draw.choice(writer.fillers["filler"][self.form]))
        parts = [raised(part) for part in parts]
        if self.form == "mail":
            half = len(parts) // 2
            return "\n\n".join([opener, " ".join(parts[:half]), " ".join(parts[half:]), closer])
        return " ".join(part for part in [opener, *parts, closer] if part)

    def statement(self, label: int) -> tuple[str, str]:
        """A statement of one to four facts and the kind of its edit ("none" if supported)."""
        draw = self.draw
        count = min(draw.choice([1, 1, 2, 2, 3, 3, 4]), len(self.told))
        chosen = draw.sample(self.told, count)
        if draw.random() < 0.7:
            chosen.sort()
        texts = [self.said(index, self.states[index]) for index in chosen]
        edit = "none"
        if label:
            at = draw.randrange(count)
            texts[at], edit = self.edited(chosen[at])
        result = texts[0]
        for text in texts[1:]:
            joiner = draw.choice(self.writer.joiners)
            result += f" {joiner} {lowered(text)}" if joiner else f" {text}"
        return result.replace("..", "."), edit

    def said(self, index: int, state: int, values: dict[str, Any] | None = None) -> str:
        """A fact in a statement's words."""
        text = self.draw.choice(split(self.facts[index][state]["t"], "|"))
        said = self.fill(text, values or self.values, plain=False)
        return raised(said)

    def edited(self, index: int) -> tuple[str, str]:
        """A fact's statement made false in one point, and the kind of edit."""
        draw, fact, state = self.draw, self.facts[index], self.states[index]
        roll = draw.random()
        if roll < 0.15 and self.untold:
            other = draw.choice(self.untold)
            return unsure(self.said(other, draw.randrange(len(self.facts[other])))), "not_told"
        if len(fact) > 1 and roll < 0.6:
            return self.opposite(index, draw.choice([at for at in range(len(fact)) if at != state])), "opposite"
        text = draw.choice(split(fact[state]["t"], "|"))
        slots = list(dict.fromkeys(SLOT.findall(text)))
        free = [name for name in slots if name not in fact[state].get("k", "").split()]
        if not free:
            return (self.opposite(index, 1 - state), "opposite") if len(fact) > 1 else self.edited_any(index)
        values, edit = self.exchanged(draw.choice(free), slots, swaps="y" not in fact[state])
        said = self.fill(text, values, plain=False)
        return raised(said), edit

    def opposite(self, index: int, state: int) -> str:
        """A fact's statement in another state, marked where it differs from the nearest wording of its own state."""
        text = self.draw.choice(split(self.facts[index][state]["t"], "|"))
        own = split(self.facts[index][self.states[index]]["t"], "|")
        nearest = max(own, key=lambda true: difflib.SequenceMatcher(None, text.split(), true.split()).ratio())
        return raised(self.fill(differing(text, nearest), self.values, plain=False))

    def edited_any(self, index: int) -> tuple[str, str]:
        """Another told fact made false, for a wording in which nothing can be exchanged."""
        return self.edited(self.draw.choice([other for other in self.told if other != index]))

    def exchanged(self, name: str, slots: list[str], *, swaps: bool = True) -> tuple[dict[str, Any], str]:
        """Values with one changed: swapped within the statement, taken from elsewhere in the record, or new."""
        draw, kind = self.draw, self.types[name]
        told = " ".join(self.facts[index][self.states[index]]["s"] for index in self.told)
        present = set(SLOT.findall(told))
        inside = [other for other in slots if other != name and self.types[other] == kind]
        others = [other for other in self.types if other != name and self.types[other] == kind and other in present]
        if inside and swaps and draw.random() < 0.5:
            other = draw.choice(inside)
            return {**self.values, name: self.values[other], other: self.values[name]}, f"swap_{kind}"
        outside = [other for other in others if other not in slots]
        if outside and draw.random() < 0.7:
            return {**self.values, name: self.values[draw.choice(outside)]}, f"confuse_{kind}"
        value = self.values[name]
        taken = {str(self.values[other]) for other in self.types if self.types[other] == kind}
        for _ in range(20):
            value = self.near(kind, self.values[name])
            if str(value) not in taken:
                break
        return {**self.values, name: value}, f"new_{kind}"

    def near(self, kind: str, value: Any) -> Any:
        """A new value, for numbers often one that looks like the old one."""
        if isinstance(value, int | float) and self.draw.random() < 0.4:
            low = 1900 if kind == "year" else 2
            step = self.draw.choice([1, 2, 3, 10]) * (100 if kind == "thousand" else 1)
            return (
                max(low, value + self.draw.choice([-step, step]))
                if isinstance(value, int)
                else value * self.draw.choice([2, 10])
            )
        return self.writer.fresh(kind)
