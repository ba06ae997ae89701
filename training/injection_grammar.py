"""A small template language: one template stands for many sentences, and a seed says which.

``‹a|b|c›`` takes one of the alternatives (an empty one is allowed), ``‹$goal›`` takes one entry of the list ``goal``,
and ``‹=name›`` takes one entry of the list ``name`` and repeats that entry wherever it is asked for again in the same
text. Brackets nest; what a list holds may be a template itself. The brackets are single guillemets, since braces,
square and angle brackets are part of attacks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import yaml

_INNERMOST = re.compile(r"‹([^‹›]*)›")
_DEPTH = 400  # a template that asks for itself would never end

Slots = Mapping[str, Sequence[str]]


def load(path: Path) -> dict[str, list[str]]:
    r"""Read a YAML file of named lists: a block of text each, an entry a line, ``\n`` for a break inside an entry.

    Raises:
        ValueError: a list holds the same entry twice.
    """
    parts: dict[str, list[str]] = {}
    for name, block in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        entries = [line.replace("\\n", "\n") for line in block.splitlines() if line]
        if len(set(entries)) < len(entries):
            raise ValueError(f"{path.name}: {name} holds an entry twice")
        parts[name] = entries
    return parts


def expand(template: str, slots: Slots, rng: Random) -> str:
    """Turn a template into one text.

    Raises:
        KeyError: the template names a list that is not there.
        RecursionError: the template expands into itself.
    """
    bound: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        body: str = match.group(1)
        if body.startswith("$"):
            return rng.choice(slots[body[1:]])
        if body.startswith("="):
            name = body[1:]
            if name not in bound:
                bound[name] = expand(rng.choice(slots[name]), slots, rng)
            return bound[name]
        return rng.choice(body.split("|"))

    text = template
    for _ in range(_DEPTH):
        text, changes = _INNERMOST.subn(replace, text)
        if not changes:
            return text
    raise RecursionError("a template expands into itself")
