"""Documents of many kinds, made from parts, and a stranger's line put into them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random

from training.injection_grammar import Slots, expand

Document = list[str]  # pieces in order; joined by line breaks they are the text, and a line may be put between any two


def _lines(name: str, count: int, slots: Slots, rng: Random) -> list[str]:
    entries = slots[name]
    chosen = rng.sample(entries, min(count, len(entries))) if count <= len(entries) else rng.choices(entries, k=count)
    return [expand(entry, slots, rng) for entry in chosen]


def _paragraphs(name: str, count: int, slots: Slots, rng: Random) -> Iterator[str]:
    lines = _lines(name, count, slots, rng)
    while lines:
        size = rng.randint(1, 4)
        yield " ".join(lines[:size])
        lines = lines[size:]


def email(slots: Slots, rng: Random) -> Document:
    """A mail with a header in one of four forms."""
    sender, to = expand("‹$d_name›", slots, rng), expand("‹$d_name›", slots, rng)
    subject = expand("‹$d_subject›", slots, rng)
    address = (
        f"{rng.choice(['info', 'noreply', 'team', 'hello', 'billing'])}@{rng.choice(['post', 'mail', 'news'])}.example"
    )
    head = rng.choice(
        [
            f"From: {sender} <{address}>\nTo: {to}\nSubject: {subject}",
            f"SUBJECT: {subject} | EMAIL_FROM: {sender} <{address}> | CONTENT:",
            f"Subject: {subject}\n",
            f"{subject}\n{sender}, {rng.randint(1, 28)} {rng.choice(['March', 'June', 'November'])}",
        ]
    )
    hello = rng.choice([f"Hi {to},", f"Dear {to},", "Hello,", "Dear customer,", f"{to},", ""])
    bye = rng.choice(
        [f"Best regards\n{sender}", f"Cheers, {sender}", f"{sender}\n{expand('‹$d_firm›', slots, rng)}", ""]
    )
    return [head, hello, *_paragraphs("mail_line", rng.randint(2, 12), slots, rng), bye]


def table(slots: Slots, rng: Random) -> Document:
    """A table with pipes (padded or not), commas, tabs or semicolons, with or without a rule under the head."""
    head = rng.choice(slots["table_head"]).split(",")
    kinds = rng.choices(slots["table_cell"], k=len(head))
    rows = [head]
    for place in range(1, rng.randint(4, 19)):
        cells = [expand(kind, slots, rng) for kind in kinds]
        if head[0] in {"Rank", "Week"}:
            cells[0] = str(place)
        elif head[0] == "Name":
            cells[0] = expand("‹$d_name›", slots, rng)
        rows.append(cells)
    style = rng.choice(["pipes", "padded", "padded", "padded", "commas", "tabs", "semicolons"])
    if style == "commas":
        return [",".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in rows]
    if style in {"tabs", "semicolons"}:
        return [("\t" if style == "tabs" else ";").join(row) for row in rows]
    widths = [max(len(row[i]) for row in rows) if style == "padded" else 0 for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    if rng.random() < 0.4:
        lines.insert(1, "|" + "|".join("-" * (width + 2 or 3) for width in widths) + "|")
    return lines


def code_answer(slots: Slots, rng: Random) -> Document:
    """An answer in a programmers' forum: prose and code blocks by turns."""
    pieces: Document = []
    for line in _lines("code_line", rng.randint(2, 6), slots, rng):
        pieces.append(line)
        if rng.random() < 0.6:
            pieces += ["```", *expand("‹$code_good›", slots, rng).split("\n"), "```"]
    return pieces


def web_page(slots: Slots, rng: Random) -> Document:
    """A page, article or manual, plain, as markdown or as HTML."""
    title = expand("‹$d_subject›", slots, rng)
    body = list(_paragraphs("page_line", rng.randint(2, 12), slots, rng))
    form = rng.choice(["plain", "markdown", "html"])
    if form == "markdown":
        return [f"# {title}", "", *body]
    if form == "html":
        return [f"<h1>{title}</h1>", *(f"<p>{part}</p>" for part in body)]
    return [title, *body]


def chat(slots: Slots, rng: Random) -> Document:
    """A chat or the minutes of a meeting."""
    people = [expand("‹$d_name›", slots, rng) for _ in range(3)]
    return [f"{rng.choice(people)}: {expand('‹$chat_line›', slots, rng)}" for _ in range(rng.randint(3, 14))]


def log(slots: Slots, rng: Random) -> Document:
    """Lines of a log with times."""
    hour = rng.randint(0, 23)
    lines = (expand("‹$log_line›", slots, rng) for _ in range(rng.randint(3, 14)))
    return [
        f"2024-0{rng.randint(1, 9)}-1{place % 10} {hour:02}:{place:02}:0{place % 6} {line}"
        for place, line in enumerate(lines)
    ]


def tool_result(slots: Slots, rng: Random) -> Document:
    """A JSON answer of a tool: records with texts."""
    records = [
        {
            "id": rng.randint(100, 9999),
            rng.choice(["title", "name", "from"]): expand("‹$d_name›", slots, rng),
            rng.choice(["text", "summary", "note", "body"]): " ".join(
                _lines("page_line", rng.randint(1, 3), slots, rng)
            ),
        }
        for _ in range(rng.randint(1, 4))
    ]
    return json.dumps({"status": "ok", "results": records}, ensure_ascii=False, indent=1).split("\n")


def ai_topic(slots: Slots, rng: Random) -> Document:
    """A page that speaks about assistants and quotes attacks, and addresses none."""
    body = list(_paragraphs("page_line", rng.randint(1, 5), slots, rng))
    body.insert(rng.randint(0, len(body)), expand("‹$about_ai›", slots, rng))
    return body


KINDS: dict[str, Callable[[Slots, Random], Document]] = {
    "email": email,
    "table": table,
    "code": code_answer,
    "web_page": web_page,
    "chat": chat,
    "log": log,
    "tool_result": tool_result,
    "ai_topic": ai_topic,
}
_SHARES = {"email": 26, "table": 24, "code": 20, "web_page": 14, "chat": 5, "log": 3, "tool_result": 4, "ai_topic": 4}


def document(slots: Slots, rng: Random) -> tuple[str, Document]:
    """Draw a kind and make a document of that kind."""
    kind = rng.choices(list(_SHARES), weights=list(_SHARES.values()))[0]
    return kind, KINDS[kind](slots, rng)


def put_in(pieces: Document, line: str, position: str, rng: Random) -> str:
    """Join the document with a stranger's line at its start, middle or end, or glued to the end of a piece."""
    if position == "start":
        return "\n".join([line, *pieces])
    if position == "end":
        return "\n".join([*pieces, line])
    spot = min(max(1, len(pieces) // 2 + rng.randint(-1, 1)), len(pieces))
    if position == "inline":
        return "\n".join([*pieces[: spot - 1], f"{pieces[spot - 1]} {line}", *pieces[spot:]])
    return "\n".join([*pieces[:spot], line, *pieces[spot:]])
