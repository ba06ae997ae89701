"""Requests for help with harm, in twenty-three areas and without detail, and look-alikes that share their words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from training.injection_encodings import scruff
from training.injection_grammar import expand, load

PARTS = Path(__file__).parent / "injection_parts"
FILES = ("direct", "indirect", "harmful")


def _slots() -> dict[str, list[str]]:
    slots: dict[str, list[str]] = {}
    for name in FILES:
        slots |= load(PARTS / f"{name}.yaml")
    return slots


def rows(data: Path, seed: int, size: int = 6_000) -> Iterator[dict[str, Any]]:
    """Yield ``size`` rows, no text twice, about as many harmful as harmless.

    A harmful row and its twin use the same frame; the twin's act is harmless. One harmless row in four speaks about
    the harm itself (signs, law, victims, prevention, fiction without a method), one in eight is an ordinary request.

    Args:
        data: not read; every generator takes the directory.
        seed: the same seed and size give the same rows.
        size: how many rows.
    """
    rng = Random(seed)  # noqa: S311 - reproducible draws
    slots = _slots()
    seen: set[str] = set()
    number = 0
    while True:
        number += 1
        area = rng.choice(slots["areas"])
        frame = rng.choice(slots["ask"])
        bad = slots[f"{area}_bad"]
        pair = [(frame, {"do": bad}, 1, area), (frame, {"do": slots[f"{area}_good"]}, 0, f"{area}_harmless")]
        if number % 4 == 0:
            pair[1] = (rng.choice(slots["good_ask"]), {"bad": bad}, 0, f"{area}_about")
        elif number % 8 == 1:
            pair[1] = (rng.choice(slots["plain_good"]), {}, 0, "ordinary")
        for template, extra, label, function in pair:
            text = scruff(expand(template, slots | extra, rng), rng).strip()
            if text in seen:
                continue
            seen.add(text)
            labels = {"function": function, "twin": f"harmful_pair:{number}"}
            yield {
                "text": text,
                "label": label,
                "task": "harmful",
                "labels": labels,
                "source": "own_generated",
                "lang": "en",
            }
            if len(seen) == size:
                return
