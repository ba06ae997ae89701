"""What is wrong with a policy, in words: the place, the key, the value and the nearest right one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from llmguard.errors import ConfigurationError, MissingExtraError, nearest
from llmguard.policy_source import is_preset
from llmguard.policy_yaml import Document, KeyPath
from llmguard.types import Action, Role, Stage

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from llmguard.policy import Policy, Rule
    from llmguard.policy_alerts import Selection

_ANY = ""  # stands for the categories that no rule names

_PROBLEMS = {
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be more than {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be less than {lt:g}",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text: put it in quotes",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty: leave the key out to mean all",
    "tuple_type": "must be one word or a list of words",
    "model_type": "must be a mapping",
}


def translated(error: ValidationError, document: Document, fields: Mapping[str, Any]) -> ConfigurationError:
    """One of pydantic's complaints as one of ours: the first in the file, unknown keys before missing ones.

    Args:
        error: what pydantic said about ``document.data``.
        document: where the data was written.
        fields: the known keys, as a tree: a model's fields, or None where a value has no keys.
    """
    found = [
        (_path(detail, document.data), detail)
        for detail in error.errors(include_url=False)
        if detail["type"] != "default_factory_not_called"  # follows from another one
    ]
    path, detail = min(found, key=lambda one: (one[1]["type"] == "missing", document.where(one[0]).line or 0))
    return document.error(_sentence(path, detail, fields), path)


def _path(detail: ErrorDetails, data: object) -> KeyPath:
    """The keys that lead to the value: pydantic's location without its names for branches of unions."""
    path: list[str | int] = []
    for part in detail["loc"]:
        if isinstance(data, BaseModel):
            data = dict(data)
        if isinstance(data, str):
            break
        try:
            data = data[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(part)
    return tuple(path)


def _sentence(path: KeyPath, detail: ErrorDetails, fields: Mapping[str, Any]) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        around = f" in {dotted(path[:-1])}" if path[:-1] else ""
        return f"unknown key {str(path[-1])!r}{around}{nearest(str(path[-1]), _keys(path[:-1], fields))}"
    if kind == "missing":
        return f"{dotted(path) or 'the policy'} needs the key {str(detail['loc'][-1])!r}"
    name = dotted(path) or "the policy"
    if kind in ("enum", "literal_error"):
        words = re.findall(r"'([^']*)'", context["expected"])
        if isinstance(value, str):
            return f"{name}: unknown word {_shown(value)}{nearest(value, words)}"
        return f"{name}: {_shown(value)} must be one of {', '.join(words)}"
    if kind == "value_error":
        return f"{name}: {context['error']}"
    problem = _PROBLEMS.get(kind)
    if problem is None:
        return f"{name}: {_shown(value)}: {detail['msg'].replace('Input should', 'it must')}"
    return f"{name}: {_shown(value)} {problem.format(**context)}"


def _keys(path: KeyPath, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    for part in path:
        if isinstance(part, str):
            fields = fields[part] or {}
    return fields


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def dotted(path: KeyPath) -> str:
    """A key path as people write it: ``rules[2].stage``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def deciders(
    rules: Sequence[Rule], known: Mapping[str, frozenset[str]] | None = None, stage: Stage | None = None
) -> list[list[int]]:
    """For each rule, which earlier rules together decide everything that it could: none when it can fire.

    Args:
        rules: in the order in which they are read.
        stage: the one that is asked about; all of a rule's by default.
        known: the categories of each detector; without it a rule for all categories also stands for
            such as no rule names.
    """
    lowest: dict[tuple[str, str, str, str], tuple[float, int]] = {}
    decided: list[list[int]] = []
    for index, rule in enumerate(rules):
        named = rule.categories or (known or {}).get(rule.detector) or (_ANY,)
        cells = [
            (rule.detector, at, role, category)
            for at, role, category in product((stage,) if stage else rule.stage, rule.role or Role, named)
        ]
        earlier = [min(lowest.get(cell, _NEVER), lowest.get((*cell[:3], _ANY), _NEVER)) for cell in cells]
        fires = any(threshold > rule.threshold for threshold, _ in earlier)
        decided.append([] if fires else sorted({by for _, by in earlier}))
        for cell in cells:
            for key in (cell, (*cell[:3], _ANY)) if rule.categories is None else (cell,):
                lowest[key] = min(lowest.get(key, _NEVER), (rule.threshold, index))
    return decided


_NEVER = (2.0, -1)  # a threshold that no score reaches


def unreachable(policy: Policy, document: Document, known: Mapping[str, frozenset[str]] | None = None) -> None:
    """Refuse a rule that can never fire since earlier rules of the same file decide all that it could.

    A rule of a file that is extended may well be decided by the file that extends it: that is what
    extending is for.

    Raises:
        ConfigurationError: names the rule and those before it.
    """
    files: dict[str, list[int]] = {}
    for index in range(len(policy.rules)):
        files.setdefault(document.where(("rules", index)).source, []).append(index)
    for source, indices in files.items():
        decided = deciders([policy.rules[index] for index in indices], None if is_preset(source) else known)
        for index, by in zip(indices, decided, strict=True):
            if by:
                first = [_rule(document, indices[earlier]) for earlier in by]
                raise document.error(
                    f"{dotted(('rules', index))} can never fire: {' and '.join(first)} "
                    f"{'decides' if len(first) == 1 else 'decide'} all of its findings first",
                    ("rules", index),
                )


def _rule(document: Document, index: int) -> str:
    line = document.where(("rules", index)).line
    return f"the rule on line {line}" if line else dotted(("rules", index))


def against(policy: Policy, document: Document, categories: Mapping[str, frozenset[str]]) -> None:
    """Refuse detectors and categories that do not exist, and rules, also of alerts, that can never fire.

    A preset may name categories that the options of a detector leave out.

    Args:
        policy: what is checked.
        document: where it was written.
        categories: what there is: the categories of each detector by its name.

    Raises:
        ConfigurationError: names the place, the word and the nearest right one; or the key of a redaction
            is missing.
        MissingExtraError: a redaction needs a package that is not installed.
    """
    for path, name in _named(policy):
        if name not in categories:
            raise document.error(f"unknown detector {name!r}{nearest(name, categories)}", path)
    for index, rule in enumerate(policy.rules):
        if rule.action is Action.REDACT:
            _ready(rule, document, ("rules", index, "redaction"))
        for category in rule.categories or ():
            path = ("rules", index, "categories")
            if category not in categories[rule.detector] and not is_preset(document.where(path).source):
                position = rule.categories.index(category) if rule.categories else 0
                raise document.error(
                    f"unknown category {category!r} of detector {rule.detector!r}"
                    f"{nearest(category, categories[rule.detector])}",
                    (*path, position),
                )
    unreachable(policy, document, categories)
    for index, alert in enumerate(policy.alerts.rules):
        for key, of in (("of", alert.of), ("among", alert.among)):
            if of is not None:
                _told(of, document, ("alerts", "rules", index, key), categories)


def _told(of: Selection, document: Document, path: KeyPath, categories: Mapping[str, frozenset[str]]) -> None:
    """Refuse an alert about what no detector of the policy tells of: it would never fire, and nobody would know."""
    for name in of.detector or ():
        if name not in categories:
            raise document.error(
                f"{dotted(path)}.detector: no rule of this policy has the detector {name!r}{nearest(name, categories)}",
                (*path, "detector"),
            )
    found = frozenset[str]().union(*[categories[name] for name in of.detector or categories])
    for name in of.category or ():
        if name not in found:
            raise document.error(
                f"{dotted(path)}.category: no detector that is meant finds {name!r}{nearest(name, found)}",
                (*path, "category"),
            )


def _ready(rule: Rule, document: Document, path: KeyPath) -> None:
    try:
        _ = rule.how
    except MissingExtraError:
        raise
    except ConfigurationError as error:
        raise document.error(f"{dotted(path)}: {error.message}", path) from None


def _named(policy: Policy) -> Iterator[tuple[KeyPath, str]]:
    for index, rule in enumerate(policy.rules):
        yield ("rules", index, "detector"), rule.detector
    for name in policy.detectors:
        yield ("detectors", name), name
