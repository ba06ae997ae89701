"""Gibberish: letters in an order that no language has, and the languages that are left alone."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator

import pytest

from llmguard.detectors.gibberish import BLOCK
from llmguard.detectors.gibberish import gibberish as find
from llmguard.detectors.token_stats import TokenStatsDetector
from llmguard.types import Finding, Text

PROSE = {
    "English": "The harbour was quiet when the last ferry came in, and nobody on the quay looked up. Marta counted "
    "the crates twice, wrote the number on her sleeve, and went to find the harbour master, who slept. ",
    "German": "Der Hafen war still, als die letzte Fähre einlief, und niemand am Kai blickte auf. Marta zählte die "
    "Kisten zweimal, schrieb die Zahl auf ihren Ärmel und ging den schlafenden Hafenmeister suchen. ",
    "Polish": "W porcie było cicho, gdy przypłynął ostatni prom, i nikt na nabrzeżu nie podniósł wzroku. Marta dwa "
    "razy policzyła skrzynie, zapisała liczbę na rękawie i poszła szukać śpiącego kapitana portu. ",
    "Czech": "V přístavu bylo ticho, když připlul poslední trajekt, a nikdo na nábřeží nezvedl hlavu. Marta "
    "dvakrát spočítala bedny, napsala si číslo na rukáv a šla hledat spícího správce přístavu. ",
    "Turkish": "Son vapur geldiğinde liman sessizdi ve rıhtımda kimse başını kaldırmadı. Marta sandıkları iki kez "
    "saydı, sayıyı koluna yazdı ve uyuyan liman şefini aramaya gitti. ",
    "Russian": "В порту было тихо, когда пришёл последний паром, и никто на набережной не поднял головы. Марта "
    "дважды пересчитала ящики, записала число на рукаве и пошла искать спящего начальника порта. ",
    "code": "def add(first, second):\n"
    "    return first + second\n"
    "\n"
    "for index in range(len(values)):\n"
    "    total += values[index] * weights.get(index, 0.0)\n"
    "print(json.dumps({'sum': total, 'mean': total / len(values)}))\n",
}


def noise(letters: str, size: int, seed: int = 1) -> str:
    draw = random.Random(seed)
    words = ("".join(draw.choices(letters, k=draw.randrange(3, 10))) for _ in range(size))
    return " ".join(words)[:size]


def gibberish(content: str, **options: float) -> list[Finding]:
    (found,) = TokenStatsDetector(**options).detect([Text(content)])  # type: ignore[arg-type]
    return [finding for finding in found if finding.category == "GIBBERISH"]


@pytest.mark.parametrize("language", PROSE)
@pytest.mark.parametrize("change", [str, str.upper, str.title])
def test_languages_and_code_are_left_alone(language: str, change: type[str]) -> None:
    assert gibberish(change(PROSE[language] * 3)) == []


@pytest.mark.parametrize(
    "letters", [string.ascii_lowercase, string.ascii_uppercase, "asdfghjklqwertyuiop", string.ascii_letters]
)
def test_random_letters_are_found(letters: str) -> None:
    (found,) = gibberish(noise(letters, 600))
    assert found.span == (0, 600)
    assert 0.6 < found.score < 1.0


def test_random_letters_without_a_space_are_found_too() -> None:
    assert gibberish(noise(string.ascii_lowercase, 600).replace(" ", ""))


def test_a_stretch_of_it_is_found_where_it_stands() -> None:
    text = (PROSE["English"] * 20)[:2_048] + noise(string.ascii_lowercase, 1_100) + PROSE["German"] * 20
    (found,) = gibberish(text)
    assert found.span is not None
    assert found.span[0] == 2_048
    assert 3_072 <= found.span[1] <= 3_584


def test_encoded_data_links_and_short_texts_are_not_called_gibberish() -> None:
    assert gibberish(noise(string.ascii_letters + string.digits + "+/", 600).replace(" ", "")) == []
    assert gibberish("https://example.com/" + noise(string.ascii_letters, 600).replace(" ", "%20")) == []
    assert gibberish(noise(string.ascii_lowercase, 199)) == []


class Counted(list[tuple[int, int]]):
    read = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self.read += 1
        return super().__iter__()


def test_blocks_that_more_is_known_of_are_left_out_and_the_known_is_read_once() -> None:
    text = noise(string.ascii_lowercase, 6 * BLOCK)
    known = Counted([(4 * BLOCK - 1, 4 * BLOCK), (BLOCK, BLOCK + 1), (BLOCK - 9, BLOCK)])
    assert [span for _, span in find(text, 0.15, known)] == [(2 * BLOCK, 3 * BLOCK), (4 * BLOCK, 6 * BLOCK)]
    assert known.read == 1


def test_the_share_that_is_allowed_is_an_option() -> None:
    assert gibberish(noise(string.ascii_lowercase, 600), gibberish=0.9) == []


def test_a_long_text_is_looked_at_in_parts_that_join() -> None:
    (found,) = gibberish(noise(string.ascii_lowercase, 100_000))
    assert found.span == (0, 100_000)
