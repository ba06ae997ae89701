"""Paraphrases and one-fact edits of sentences that were not written for it.

Both are rules over words: a paraphrase exchanges synonyms, moves a time to the front or leaves out an aside; an edit
exchanges a number, a name, an opposite or a member of a kind. Each returns None where nothing applies.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from training.grounding_records import NUMBERS, load, split

NUMBER = re.compile(r"(?<![\w.,$-])\d[\d,]*(?:\.\d+)?(?![\w.,]*\d)")
NAME = re.compile(r"(?<=[a-z,;:(\"'] )(?!I\b)[A-Z][\w'’-]+(?: (?:(?:of|the|de|van|von|and) )?[A-Z][\w'’-]+)*")
SENTENCE = re.compile(
    r"(?<=[.!?])[\"')]*\s+(?=[\"'(]?[A-Z0-9])|(?<=[a-z)\"0-9][.])(?=[A-Z][a-z])|(?<=[.!?]) +(?=[a-z])|\n+"
)
YEAR = (1000, 2100)


def sentences(text: str) -> list[str]:
    """The text's sentences, lines of a dialogue apart."""
    found = [part.strip() for part in SENTENCE.split(text)]
    joined: list[str] = []
    for part in found:
        if joined and re.search(r"\b(?:[A-Z]|Mr|Mrs|Dr|St|Jr|Inc|No|U\.S)\.$", joined[-1]):
            joined[-1] += f" {part}"
        elif part:
            joined.append(part)
    return joined


class Editor:
    """Edits and paraphrases sentences.

    Args:
        draw: source of all randomness.
        names: names from many contexts, for exchanges with a name that the context lacks.
    """

    def __init__(self, draw: random.Random, names: list[str]) -> None:
        parts = load("edits.yaml")
        self.draw, self.names = draw, names
        self.opposites = table(parts["opposites"])
        self.synonyms = table(parts["synonyms"])
        self.kinds = [split(line) for line in parts["kinds"]]
        self.openers = [opener.strip('"') for opener in split(parts["openers"])]
        self.outside = split(parts["outside"])
        self.people = split(parts["people"])

    def paraphrase(self, sentence: str) -> str:
        """The sentence in slightly other words; it may come back unchanged."""
        text = re.sub(r"\s+", " ", sentence).strip()
        if self.draw.random() < 0.6:
            text = re.sub(r" ?\([^()]*\)", "", text)
        if self.draw.random() < 0.3:
            text = re.sub(r", (?:which|who|where) [^,.;]+,", "", text, count=1)
        if self.draw.random() < 0.3:
            text = re.sub(r"^(.+?),? (in|on|during) ((?:[A-Z][a-z]+ )?\d{4})\.$", front, text)
        elif self.draw.random() < 0.4:
            text = re.sub(r"^(In|On|During) ((?:[A-Z][a-z]+ )?\d{4}),? (\w.+?)\.$", back, text)
        return self.exchange(text, self.synonyms, 3) or text

    def exchange(self, text: str, words: dict[str, list[str]], most: int) -> str | None:
        """The text with up to ``most`` words of the table exchanged."""
        spots = [(m.start(), m.end(), m[0]) for m in re.finditer(r"[A-Za-z]+(?:['’]\w+)?", text)]
        # A capital inside a sentence is a name's: it stays.
        places = [at for at in spots if at[2].lower() in words and (at[2][0].islower() or at[0] == 0)]
        places = [at for at in places if text[: at[0]].count('"') % 2 == 0]
        if not places:
            return None
        for start, end, word in sorted(self.draw.sample(places, min(len(places), most)), reverse=True):
            new = self.draw.choice(words[word.lower()])
            text = text[:start] + (new.capitalize() if word[0].isupper() else new) + text[end:]
        return text

    def edit(self, sentence: str, context: str) -> tuple[str, str] | None:
        """The sentence with one fact changed and the kind of the edit."""
        ways: list[tuple[str, Callable[[], str | None]]] = [
            ("number", lambda: self.number(sentence, context)),
            ("name", lambda: self.name(sentence, context)),
            ("opposite", lambda: self.exchange(sentence, self.opposites, 1)),
            ("kind", lambda: self.kind(sentence)),
        ]
        self.draw.shuffle(ways)
        for edit, way in ways:
            text = way()
            if text and text != sentence and text not in context:
                return text, edit
        return None

    def number(self, sentence: str, context: str) -> str | None:
        """One number exchanged, at times for another of the context."""
        found = [(m.start(), m.end(), m[0]) for m in NUMBER.finditer(sentence)]
        found += [(m.start(), m.end(), m[0]) for m in re.finditer(rf"\b(?:{'|'.join(NUMBERS[2:])})\b", sentence)]
        if not found:
            return None
        start, end, old = self.draw.choice(found)
        if old in NUMBERS:
            new = self.draw.choice([word for word in NUMBERS[2:] if word != old])
        else:
            others = [other for other in NUMBER.findall(context) if other not in sentence and len(other) == len(old)]
            new = self.draw.choice(others) if others and self.draw.random() < 0.5 else self.digits(old)
        return sentence[:start] + new + sentence[end:]

    def digits(self, old: str) -> str:
        """Another number of the same form; a year stays near."""
        if old.isdigit() and len(old) == 4 and YEAR[0] < int(old) < YEAR[1]:
            return str(int(old) + self.draw.choice([-30, -12, -7, -3, -2, -1, 1, 2, 4, 6, 11]))
        places = [at for at, sign in enumerate(old) if sign.isdigit()]
        at = self.draw.choice(places)
        new = self.draw.choice([digit for digit in "123456789" if digit != old[at]])
        return old[:at] + new + old[at + 1 :]

    def name(self, sentence: str, context: str) -> str | None:
        """One name exchanged for another, mostly one of the context."""
        found = [(m.start(), m.end(), m[0]) for m in NAME.finditer(sentence)]
        if not found:
            return None
        start, end, old = self.draw.choice(found)
        count = len(old.split())
        near = [name for name in NAME.findall(context) if name not in sentence and old not in name]
        pool = near if near and self.draw.random() < 0.6 else self.names
        alike = [name for name in pool if len(name.split()) == count and name != old] or [
            name for name in self.names if len(name.split()) == count
        ]
        return sentence[:start] + self.draw.choice(alike) + sentence[end:] if alike else None

    def kind(self, sentence: str) -> str | None:
        """A month, day, nationality, colour or city exchanged for another."""
        for members in self.draw.sample(self.kinds, len(self.kinds)):
            found = [m for m in re.finditer(r"\b[A-Za-z]+(?: [A-Z][a-z]+)?\b", sentence) if m[0] in members]
            if found:
                spot = self.draw.choice(found)
                new = self.draw.choice([member for member in members if member != spot[0]])
                return sentence[: spot.start()] + new + sentence[spot.end() :]
        return None

    def chatty(self, text: str) -> str:
        """The text as an answer in a chat: an opener, small letters, no full stop, at random."""
        draw = self.draw
        if draw.random() < 0.6:
            opener = draw.choice(self.openers)
            text = f"{opener} {text}"
        if draw.random() < 0.6:
            text = text.lower()
        if draw.random() < 0.4:
            text = text.rstrip(".")
        return text

    def foreign(self, matter: str) -> str:
        """A claim about the matter that no text tells."""
        draw = self.draw
        values = {"x": matter, "n": str(draw.choice([draw.randint(3, 90), draw.randint(1890, 2019)]))}
        values["p"], values["c"] = (draw.choice(self.names) for _ in "pc")
        return re.sub(r"\{(\w)\}", lambda slot: values[slot[1]], draw.choice(self.outside).strip('"'))


def table(text: str) -> dict[str, list[str]]:
    """Exchanges in both directions; a phrase of several words is only a target."""
    words: dict[str, list[str]] = {}
    for pair in split(text):
        if pair:
            left, right = pair.split("/")
            for word, other in ((left, right), (right, left)):
                if " " not in word:
                    words.setdefault(word, []).append(other)
    return words


def front(match: re.Match[str]) -> str:
    """The time of a sentence at its front."""
    rest = match[1]
    small = re.match(r"(?:The|It|He|She|They|This|A|An) ", rest) is not None
    return f"{match[2].capitalize()} {match[3]}, {rest[0].lower() + rest[1:] if small else rest}."


def back(match: re.Match[str]) -> str:
    """The time of a sentence at its end."""
    return f"{match[3][0].upper() + match[3][1:]} {match[1].lower()} {match[2]}."
