"""Which table an observation counts to: one for each source, or one for each version of a prompt."""

from __future__ import annotations


def key(source: str, prompt: tuple[str, str, str]) -> str:
    """The table of a version of a prompt; no other prompt and version has the same.

    Args:
        source: of the observations.
        prompt: name, version and variant, of which the last counts for nothing here.
    """
    name = prompt[0].replace("%", "%25").replace("@", "%40")
    # Exporters can't encode lone surrogates.
    return f"{source} {name}@{prompt[1]}".encode("utf-8", "replace").decode()


def parts(table: str) -> tuple[str, str]:
    """The source of a table, and of which prompt it is, with the name as it stands in the key; "" where of none."""
    source, _, of = table.partition(" ")
    return source, of.partition("@")[0]


def label(table: str, feature: str) -> str:
    """What a feature is called outside: the versions of a prompt have one feature each."""
    of = table.partition(" ")[2]
    return f"{feature} {of}" if of else feature
