"""Values for the slots of the entity templates: names, places, organisations and addresses of many cultures.

Each value is a list of pieces ``(text, category)``; the category is None where the words are no entity, so that
titles and articles stay outside the spans. All randomness comes from one ``random.Random``; faker is seeded from it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Pieces = list[tuple[str, str | None]]
PARTS = Path(__file__).parent / "pii_parts"
PLACES = ("country", "city", "state", "region", "water", "mountain", "island", "place", "street")
GROUPS = ["university", "school", "ministry", "band", "club", "league", "paper", "party"]
GROUPS += ["hospital", "ngo", "museum", "army", "company", "company", "company"]
# Shares of the written forms of a person's name, roughly as they occur in prose, forms and chats.
FORMS = {"full": 42, "first": 26, "last": 16, "nick": 7, "init": 4, "mono": 3, "famous": 2}


def load(name: str) -> dict[str, Any]:
    """Read one part file."""
    with (PARTS / name).open(encoding="utf-8") as file:
        parts: dict[str, Any] = yaml.safe_load(file)
    return parts


def split(text: str) -> list[str]:
    """Values of a list that is written in one line."""
    return [value.strip() for value in text.split(";") if value.strip()]


class Values:
    """Draws values by the slot's name and remembers the people of a row.

    Args:
        draw: source of all randomness.
        companies: further names of companies, such as a public list.
    """

    def __init__(self, draw: random.Random, companies: list[str]) -> None:
        from faker import Faker

        self.draw = draw
        names = load("names.yaml")
        self._own = [
            (split(part["first"]), split(part["last"]), part.get("family_first", False))
            for part in names["own"].values()
        ]
        self._locales: list[Any] = []
        for locale in names["faker"].split():
            fake = Faker(locale)
            fake.seed_instance(draw.getrandbits(32))
            self._locales.append(fake)
        self._names = {key: split(names[key]) for key in ("nicknames", "mononyms", "famous", "particles", "titles")}
        self._places = {key: split(value) for key, value in load("places.yaml").items()}
        self._groups = {key: split(value) for key, value in load("organisations.yaml").items()}
        self.words = {key: split(value) for key, value in load("words.yaml").items()}
        self._companies = companies
        self.people: dict[str, tuple[str, str, bool]] = {}
        self.start_row()

    def start_row(self) -> None:
        """Forget the people and choose the culture of the next row."""
        self.people = {}
        self._fake = self.draw.choice(self._locales)
        self._culture = self.draw.choice(self._own) if self.draw.random() < 0.4 else None

    def pick(self, values: list[str]) -> str:
        """One of the values."""
        return self.draw.choice(values)

    def value(self, slot: str, who: str) -> Pieces:
        """Pieces for a slot such as ``full`` (a person, ``who`` names which one), ``city`` or ``year``."""
        if slot in ("per", "full", "first", "last", "init", "rev", "revslash", "FULL", "nick", "mono", "famous"):
            return [(self._person(slot, who), "PERSON")]
        if slot in PLACES or slot in ("town", "CITY"):
            return self._place(slot)
        if slot in GROUPS or slot == "org":
            return article(self.group(slot), "ORGANIZATION")
        if slot in ("addr", "addr1") and self.draw.random() < 0.5:
            return self._composed(self.pick([", ", ", ", " "] if slot == "addr1" else ["\n", "\n ", ", "]))
        if slot in ("addr", "addr1", "addr_short", "unit", "pobox"):
            return [(self._address(slot), "ADDRESS")]
        return [(self._plain(slot), None)]

    def _new_person(self) -> tuple[str, str, bool]:
        draw = self.draw
        culture = self._culture
        if draw.random() < 0.25:  # a guest from elsewhere
            culture = draw.choice(self._own) if draw.random() < 0.6 else None
            fake = draw.choice(self._locales)
        else:
            fake = self._fake
        if culture:
            first, last, family_first = draw.choice(culture[0]), draw.choice(culture[1]), culture[2]
        else:
            first, last, family_first = str(fake.first_name()), str(fake.last_name()), False
        roll = draw.random()
        if roll < 0.03:
            last = f"{self.pick(self._names['particles'])} {last}"
        elif roll < 0.06 and " " not in last:
            last = f"{last}-{fake.last_name()}"
        return first, last, family_first

    def _person(self, form: str, who: str) -> str:
        if not who or who not in self.people:
            person = self._new_person()
            if who:
                self.people[who] = person
        else:
            person = self.people[who]
        first, last, family_first = person
        if form == "per":
            form = self.draw.choices(list(FORMS), list(FORMS.values()))[0]
        if form == "full":
            return self._full(first, last, family_first)
        initial = first[0]
        return {
            "first": lambda: first,
            "last": lambda: last,
            "FULL": lambda: f"{first} {last}".upper(),
            "init": lambda: self.pick(
                [f"{initial}. {last}", f"{initial}. {self.pick(list('ABCDEHJKLMPRST'))}. {last}"]
            ),
            "rev": lambda: self.pick(
                [f"{last}, {first}", f"{last}, {first}", f"{last}, {initial}.", f"{last} {first}"]
            ),
            "revslash": lambda: f"{last}/{first}".upper(),
            "nick": lambda: self.pick(self._names["nicknames"]),
            "mono": lambda: self.pick(self._names["mononyms"]),
            "famous": lambda: self.pick(self._names["famous"]),
        }[form]()

    def _full(self, first: str, last: str, family_first: bool) -> str:
        roll = self.draw.random()
        letter = self.pick(list("ABCDEFGHJKLMNPRSTW"))
        if family_first and roll < 0.6:
            return f"{last} {first}"
        if roll > 0.96:
            return f'{first} "{self.pick(self._names["nicknames"])}" {last}'
        if roll > 0.88:
            return f"{first} {letter}. {last}"
        if roll > 0.84:
            return f"{first[0]}. {letter}. {last}"
        if roll > 0.80:
            return f"{first} {self._new_person()[0]} {last}"
        if roll > 0.78:
            return f"{first} {last} {self.pick(['Jr.', 'Sr.', 'II', 'III'])}"
        return f"{first} {last}"

    def town(self) -> str:
        """The name of a town: invented, from faker or real."""
        roll = self.draw.random()
        if roll < 0.4:
            name = self.pick(self._places["town_stems"]) + self.pick(self._places["town_ends"])
            return self.pick([form.strip('"') for form in self._places["town_forms"]]).replace("{n}", name)
        if roll < 0.8:
            return str(self._fake.city())
        return self.pick(self._places["city"])

    def _place(self, slot: str) -> Pieces:
        if slot == "town" or (slot == "city" and self.draw.random() < 0.3):
            return [(self.town(), "LOCATION")]
        if slot == "CITY":
            return [(self.pick(self._places["city"]).upper(), "LOCATION")]
        return article(self.pick(self._places[slot]), "LOCATION")

    def group(self, kind: str) -> str:
        """The name of an organisation of a kind."""
        draw = self.draw
        kind = self.pick(GROUPS) if kind == "org" else kind
        if kind == "company" and draw.random() < 0.45:
            return self.pick(self._companies) if draw.random() < 0.6 else str(self._fake.company())
        form = self.pick(self._groups[kind])
        return re.sub(r"\{(\w+)\}", lambda slot: self._group_word(slot[1]), form)

    def _group_word(self, slot: str) -> str:
        if slot in ("first", "last", "last2"):
            first, last, _ = self._new_person()
            return first if slot == "first" else last
        if slot == "num":
            return str(self.draw.randint(2, 40))
        if slot == "city":
            return self.town() if self.draw.random() < 0.3 else self.pick(self._places["city"])
        if slot in ("state", "country"):
            return self.pick(self._places[slot])
        return self.pick(self._groups[slot.rstrip("2")])

    def _address(self, slot: str) -> str:
        draw, fake = self.draw, self._fake
        if slot == "pobox":
            box = self.pick(["P.O. Box", "PO Box", "Postfach", "Box", "Casilla", "BP", "Apartado"])
            return f"{box} {draw.randint(10, 9999)}, {fake.postcode()} {self.town()}"
        if slot == "unit":
            return self._unit()
        if slot == "addr_short":
            return " ".join(str(fake.street_address()).split())
        text = str(fake.address())
        if slot == "addr1":
            return re.sub(r"\s*\n\s*", lambda _: self.pick([", "] * 3 + [" "]), text)
        return text

    def _unit(self) -> str:
        unit = self.pick(["Apt.", "Apt", "Flat", "Unit", "Suite", "#", "Floor", "Block", "Room", "c/o unit"])
        return f"{unit} {self.draw.randint(1, 900)}{self.pick(['', '', '', 'A', 'b'])}"

    def _composed(self, between: str) -> Pieces:
        """An address part by part: the house is the address, its town, state and country are places."""
        draw, fake = self.draw, self._fake
        house = [" ".join(str(fake.street_address()).split())]
        if draw.random() < 0.35:
            house.insert(draw.choice([0, 1, 1]), self._unit())
        code, town = str(fake.postcode()), self.town()
        parts: list[Pieces] = [[(between.join(house), "ADDRESS")]]
        place: tuple[str, str | None] = (town, "LOCATION")
        parts.append(draw.choice([[(f"{code} ", None), place], [place, (f", {code}", None)], [place]]))
        if draw.random() < 0.3:
            parts.append([(self.pick(self._places["state"]), "LOCATION")])
        if draw.random() < 0.45:
            parts.append(
                [*article(self.pick(self._places["country"]), "LOCATION"), (self.pick(["", f" {code}"]), None)]
            )
        pieces = parts[0]
        for part in parts[1:]:
            pieces = [*pieces, (between, None), *part]
        return [piece for piece in pieces if piece[0]]

    def _plain(self, slot: str) -> str:
        draw = self.draw
        numbers: dict[str, Callable[[], str]] = {
            "year": lambda: str(draw.randint(1780, 2025)),
            "dd": lambda: str(draw.randint(1, 28)),
            "d": lambda: str(draw.randint(1, 9)),
            "mm": lambda: f"{draw.randint(1, 12):02d}",
            "num": lambda: str(draw.randint(2, 950)),
            "bignum": lambda: f"{draw.randint(1000, 980000):,}",
            "ord": lambda: self.pick(["first", "second", "third", "5th", "12th", "19th", "20th"]),
            "i": lambda: self.pick(list("ABCDEFGHJKLMNPRSTW")),
            "time": lambda: f"{draw.randint(1, 23)}:{draw.randint(0, 59):02d}",
            "money": lambda: self.pick(["$", "€", "£", "USD ", "Rs "]) + self.pick(self.words["amount"]),
            "phone": lambda: str(self._fake.phone_number()),
            "email": lambda: str(self._fake.safe_email()),
            "day_fr": lambda: self.pick(["lundi", "mardi", "jeudi", "samedi"]),
            "him": lambda: self.pick(["him", "her", "them"]),
            "title": lambda: self.pick(self._names["titles"]),
        }
        if slot == "anat":
            nat = self.pick(self.words["nat"])
            return f"an {nat}" if nat[0] in "AEIO" else f"a {nat}"
        return numbers[slot]() if slot in numbers else self.pick(self.words[slot])


def article(name: str, category: str) -> Pieces:
    """A name with its lower-case article kept outside the span."""
    return [("the ", None), (name[4:], category)] if name.startswith("the ") else [(name, category)]
