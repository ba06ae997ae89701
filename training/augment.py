"""Small changes to a training text that leave its labels alone, so that the style of a source tells nothing."""

from __future__ import annotations

import dataclasses
import html
import random
import re

from training.labels import Example

_HANDLE = re.compile(r"@\w+:?")
_LINK = re.compile(r"(?:https?://|www\.)\S+|\b[\w-]+\.example\b\S*")
_RETWEET = re.compile(r"^[!\"“”\s]*RT\b|\bRT (?=@)")
_WIKI = re.compile(
    r"'{2,}|={2,}|\[\[|\]\]|\{\{|\}\}|^[ :*#]+|\s*—?\s*\d\d:\d\d, [\w ]{8,20}\(UTC\)|`{2,}", re.MULTILINE
)
_SPACE = re.compile(r"[ \t]{2,}")
_TWEETS = ("davidson", "hatemoji", "generated_toxicity", "toxicity")
_LOOKALIKE = {"a": "@", "i": "1", "e": "3", "o": "0", "s": "$"}


def cleaned(item: Example, rng: random.Random) -> str:
    """The text without most of what only its source has: markup and signatures, handles, links, retweet marks."""
    text = item.text
    if item.source.startswith("wiki"):
        text = _WIKI.sub(" ", text) if rng.random() < 0.9 else text
    if item.source.startswith(_TWEETS):
        text = html.unescape(text)
        text = _RETWEET.sub("", text)
        handle = "@user" if rng.random() < 0.6 else ""
        text = _HANDLE.sub(handle, text)
        text = _LINK.sub("URL" if rng.random() < 0.3 else "", text)
    if "injection" in item.source:
        # The reserved domain is only in rows that were made up.
        text = text.replace(".example", rng.choice((".com", ".org", ".net", ".io", ".co.uk", ".example")))
    return _SPACE.sub(" ", text).strip()


def roughened(text: str, rng: random.Random, *, spelling: bool) -> str:
    """Case, end marks and, where asked for, spelling as people who type fast or hide a word have them."""
    draw = rng.random()
    if draw < 0.12:
        text = text.lower()
    elif draw < 0.15:
        text = text.upper()
    draw = rng.random()
    if draw < 0.15:
        text = text.rstrip(".!?\"'”) ")
    elif draw < 0.20:
        text = text + rng.choice("!.?…") * rng.randint(1, 3)
    if rng.random() < 0.03:
        text = re.sub(r"[,;:.!?'\"]", "", text)
    if spelling and rng.random() < 0.05:
        text = _misspelt(text, rng)
    return text


def _misspelt(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    for place in rng.sample(range(len(words)), min(len(words), rng.randint(1, 3))):
        word = words[place]
        if len(word) < 4:
            continue
        cut = rng.randrange(1, len(word) - 1)
        kind = rng.randrange(5)
        if kind == 0:
            word = word[:cut] + word[cut + 1 :]
        elif kind == 1:
            word = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
        elif kind == 2:
            word = word[:cut] + word[cut] * rng.randint(2, 4) + word[cut + 1 :]
        elif kind == 3:
            word = "".join(_LOOKALIKE.get(char, char) if rng.random() < 0.6 else char for char in word)
        else:
            word = rng.choice(" .-*").join(word)
        words[place] = word
    return " ".join(words)


def augmented(item: Example, rng: random.Random) -> Example:
    """An example as an epoch shows it. Texts with places in them change their case alone, and keep their length."""
    if item.spans is not None or item.focus is not None:
        draw = rng.random()
        text = item.text.lower() if draw < 0.08 else item.text.upper() if draw < 0.12 else item.text
        return dataclasses.replace(item, text=text) if len(text) == len(item.text) else item
    if item.context:
        return item  # a changed letter could be the one fact that differs
    text = roughened(cleaned(item, rng), rng, spelling=True)
    return dataclasses.replace(item, text=text) if text.strip() else item
