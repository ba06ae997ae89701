"""Prompt injection by its known shapes, from rules in data.

Each rule names what it looks for, how sure a hit makes us and where the shape is described. One RE2
scan tells which rules can hit at all; a clean text costs that scan. A text is read as it stands, with
disguises taken off (``views.py``) and with encodings undone (``decoding.py``); spans are always
those of the text itself.

References: OWASP LLM01:2025 (prompt injection), MITRE ATLAS AML.T0051, AML.T0054 and AML.T0056.
"""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

from llmguard.detectors.decoding import CANDIDATES, decoded
from llmguard.detectors.injection_file import CATEGORIES, ENCODED, Rule, bundled_rules, read_rules
from llmguard.detectors.injection_gate import NONE, Gate, Hits
from llmguard.detectors.views import View, is_plain, normalised
from llmguard.errors import ConfigurationError, nearest
from llmguard.types import Finding, Role, Scope, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HIDDEN = 0.5
"""A disguised or encoded hit halves the doubt: honest text has no reason to hide an instruction."""

_MENTIONED = 0.5
"""A shape that is only talked about counts half: 'why do people write "ignore your rules"?'."""

_SPEECH = (
    r"typ(?:es?|ed|ing)|writ(?:es?|ing|ten)|wrote|says?|said|like|e\.g\.|examples?|instance|phrases?|payloads?"
    r"|logged|inputs?|called|means?|mean|printed|strings?|quot\w+|reads|is|does|should it be|contain(?:s|ed)|tests?"
    r"|translate|schrei\w+|dice|dit|met|mit"
)
_MENTION = re.compile(
    rf"(?:\b(?:{_SPEECH})\b[^\"“”„«»\n]{{0,40}}|:\s{{0,3}}[^\"“”„«»\n]{{0,40}}\"[^\"\n]{{0,60}}\", )"
    r"[\"“„«][^\"“”„«»\n]{0,60}$",
    re.IGNORECASE,
)
_BEFORE = 160
_AROUND = 512
"""Characters that a hit may reach beyond the part of a text that was decoded."""
_QUOTES = frozenset('"“„«')
_SAID = {"INSTRUCTION_OVERRIDE", "PROMPT_EXTRACTION", "INDIRECT_INSTRUCTION", "EXFILTRATION"}

_Key = tuple[int, int, str]


class InjectionRulesDetector:
    """Finds the known shapes of prompt injection.

    A finding's score is its rule's. The strongest finding of a text carries the combined score
    ``1 - prod(1 - s)`` over the best score ``s`` of each category: shapes of different kinds support each
    other, repetitions of one kind do not. A hit in a disguised or encoded reading scores ``1 - (1 - s) / 2``,
    an encoded one is an ENCODED_PAYLOAD.

    Args:
        rules: path of a YAML file with rules of your own, added to the bundled ones.
        disable: ids of rules to leave out.
        decode: whether to undo encodings and scan what they hide.

    Raises:
        ConfigurationError: an option or a rule is wrong; names the file and the rule.
    """

    name = "injection_rules"
    version = "1"
    scope = Scope.DOCUMENT
    categories = frozenset(CATEGORIES)
    inline = True

    def __init__(self, *, rules: str | None = None, disable: Sequence[str] = (), decode: bool = True) -> None:
        if rules is not None and not isinstance(rules, str):
            raise ConfigurationError(f"injection_rules: rules: {rules!r} is no path of a YAML file")
        if not isinstance(decode, bool):
            raise ConfigurationError(f"injection_rules: decode: {decode!r} is neither true nor false")
        if isinstance(disable, str) or not all(isinstance(rule, str) for rule in disable):
            raise ConfigurationError(f"injection_rules: disable: {disable!r} is no list of rule ids")
        self._options: dict[str, Any] = {"rules": rules, "disable": list(disable), "decode": decode}
        known = bundled_rules()
        if rules is not None:
            known += read_rules(rules, taken=[rule.id for rule in known])
        ids = {rule.id for rule in known}
        for rule in disable:
            if rule not in ids:
                raise ConfigurationError(f"injection_rules: disable: no rule {rule!r}{nearest(rule, ids)}")
        self._rules = [rule for rule in known if rule.id not in set(disable)]
        self._gate = Gate(self._rules, CANDIDATES if decode else {})

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings for each text; rules that are limited to a role look at texts of that role alone."""
        return [self._one(text) for text in texts]

    def _one(self, text: Text) -> list[Finding]:
        content = text.content
        hits = self._gate.match(content, text.role)
        plain = content.isascii() or is_plain(content)
        if plain and hits is NONE:
            return []
        found: dict[_Key, Finding] = {}
        self._collect(View("", content), text.role, found, hits)
        base, kinds = content, hits.kinds
        if hits.controls or not plain:
            view = normalised(content)
            base = view.content
            if base != content:
                hits = self._gate.match(base, text.role)
                self._collect(view, text.role, found, hits)
                for reading in decoded(base, hits.kinds) if hits.kinds else ():
                    self._collect(Chained(reading, view), text.role, found)
        if kinds and (base == content or "tags" in kinds):
            for reading in decoded(content, kinds):
                self._collect(reading, text.role, found)
        return _combined(found) if found else []

    def _collect(self, view: View | Chained, role: Role, found: dict[_Key, Finding], hits: Hits | None = None) -> None:
        """Adds the findings of one reading; a span that a plainer reading gave for the rule is kept."""
        content = view.content
        if view.changed is not None:
            for first, last in _windows(view.changed):
                window = content[first:last]
                self._read(view, window, first, role, found, self._gate.match(window, role))
        else:
            self._read(view, content, 0, role, found, hits or self._gate.match(content, role))

    def _read(
        self, view: View | Chained, part: str, at: int, role: Role, found: dict[_Key, Finding], hits: Hits
    ) -> None:
        """Adds the findings of a part of a reading that begins at ``at``."""
        if not hits.rules:
            return
        for rule, first, last in self._gate.hits(part, role, hits.rules):
            start, end = first + at, last + at
            span = view.original(start, end)
            if (*span, rule.id) not in found:
                before = view.content[max(0, start - _BEFORE) : start + 1]
                mentioned = rule.category in _SAID and not _QUOTES.isdisjoint(before) and _MENTION.search(before)
                found[*span, rule.id] = _finding(rule, view.name, span, bool(mentioned))


class Chained:
    """A reading of a reading."""

    def __init__(self, inner: View, outer: View) -> None:
        self.name = inner.name
        self.content = inner.content
        self.changed = inner.changed
        self._views = (inner, outer)

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span of the text itself that a span of the reading comes from."""
        for view in self._views:
            start, end = view.original(start, end)
        return start, end


def _windows(changed: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The changed parts with what stands around them, joined where they meet.

    What lies outside is read as part of the text itself.
    """
    first = last = 0
    for start, end in changed:
        if start - _AROUND > last:
            if last:
                yield first, last
            first = max(0, start - _AROUND)
        last = max(last, end + _AROUND)
    if last:
        yield first, last


def _rebuild(options: dict[str, Any]) -> InjectionRulesDetector:
    return InjectionRulesDetector(**options)


def _finding(rule: Rule, reading: str, span: tuple[int, int], mentioned: bool) -> Finding:
    score = rule.score * _MENTIONED if mentioned else rule.score
    if not reading:
        return Finding(rule.category, score, span, reasons=(rule.id, rule.reason))
    score = 1 - (1 - score) * _HIDDEN
    category = rule.category if reading == "normalised" else ENCODED
    return Finding(category, score, span, reasons=(rule.id, rule.reason, f"read as {reading}"))


def _combined(found: dict[_Key, Finding]) -> list[Finding]:
    """The findings in order, the strongest lifted to the combined score."""
    findings = [found[key] for key in sorted(found)]
    best: dict[str, float] = {}
    for finding in findings:
        best[finding.category] = max(finding.score, best.get(finding.category, 0.0))
    if len(best) > 1:
        top = max(range(len(findings)), key=lambda index: findings[index].score)
        lead = findings[top]
        score = 1 - prod(1 - score for score in best.values())
        findings[top] = Finding(lead.category, score, lead.span, reasons=lead.reasons)
    return findings
