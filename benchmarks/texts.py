"""The texts that the benchmarks run on."""

import json
from functools import cache
from pathlib import Path

SAMPLE = Path(__file__).parent.parent / "tests" / "data" / "pii_sample.jsonl"

CLEAN = """Our team has been looking for a way to make the weekly planning meeting shorter without losing what makes it
useful. At the moment everybody reads out what they did, then what they plan to do, and then we talk about whatever seems
most urgent, which is often the thing that was mentioned last rather than the thing that matters most. Could you suggest
an agenda for thirty minutes that keeps the short round at the start, leaves at least half of the time for decisions, and
ends with a clear list of who does what until when? We are nine people in three time zones, so some of us join late in the
evening and others before breakfast, and nobody wants to sit through a discussion that concerns only two of the others.
Please also write a short message that I can send around beforehand to explain the change. It should be friendly and
honest about the reasons, say that we will try it for a month, and ask people to tell me what they miss. One of my
colleagues prefers to read rather than to listen, so a summary after the meeting would help him a great deal, and it
would be a good habit for the rest of us as well, I think. Thank you very much for your help with this.""".replace(
    "\n", " "
)

# The well-known test values; the keys are assembled so that no scanner takes them for real ones.
AWS_KEY = "AKIA" + "IOSFODNN7" + "EXAMPLQ"
GITHUB_TOKEN = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"

_PARTS = (
    "Write to ada.lovelace@example.com or",
    "c.babbage@example.org or grace@navy.example.net about it.",
    "The first card is 4111 1111 1111 1111 and",
    "the other 5500-0000-0000-0004, please.",
    "My phone number is +1 212-555-0187.",
    "The server is 203.0.113.77 by the way.",
    "My SSN is 219-09-9999, if you need it.",
    f"We use {AWS_KEY} there and",
    f"the token {GITHUB_TOKEN} here.",
)


def with_ten_findings() -> str:
    """`CLEAN` with three e-mail addresses, two cards, a phone number, an IP address, an SSN and two keys in it."""
    sentences = CLEAN.split(". ")
    step = max(1, len(sentences) // len(_PARTS))
    for index, part in enumerate(_PARTS):
        sentences.insert(min(len(sentences), index * (step + 1)), part.rstrip("."))
    return ". ".join(sentences)


@cache
def _sentences() -> str:
    """Real sentences, of Wikipedia and of short messages, in ASCII; tests/data/README.md says where they come from."""
    rows = map(json.loads, SAMPLE.read_text(encoding="utf-8").splitlines())
    return " ".join(row["text"] for row in rows if row["source"] != "own" and row["text"].isascii())


def prose(size: int) -> str:
    """That many characters of real sentences, over and over."""
    sentences = _sentences() + " "
    return (sentences * (size // len(sentences) + 1))[:size]


def adversarial(size: int) -> dict[str, str]:
    """Texts without findings that are made to keep patterns busy: almost-matches over and over."""
    made = {
        "one letter": "a",
        "dashed letters": "a-",
        "dotted letters": "a.",
        "almost e-mails": "a.b-c@",
        "at signs": "@",
        "spaced digits": "1 ",
        "digits and dots": ".1 ",
        "almost base64": "QUFB/",
        "brackets": "(",
        "angle brackets": "<",
        "spaces": " ",
        "percent signs": "%",
        "words that begin an attack": "ignore all the ",
        "quotes and equals": "key='",
        "slashes": "http:/",
    }
    return {name: (piece * (size // len(piece) + 1))[:size] for name, piece in made.items()}
