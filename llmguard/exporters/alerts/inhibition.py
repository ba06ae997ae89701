"""Inhibition: while one alert fires, others that follow from it are not told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.matching import Matcher, all_match


@dataclass(frozen=True)
class Inhibition:
    """Says which alerts keep which others from being told; means what Alertmanager's ``inhibit_rules`` mean.

    An alert that is both source and target is inhibited by none that is both, itself among them. An alert that is
    silenced or inhibited inhibits others all the same.

    Attributes:
        source: conditions on what inhibits, as long as it fires.
        target: conditions on what is inhibited.
        equal: labels that both must have the same values of; one that neither has is equal.

    Raises:
        ConfigurationError: source or target have no conditions, and would mean all alerts.
    """

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.source or not self.target:
            raise ConfigurationError("an inhibition needs conditions on its source and on its target")


class Inhibitions:
    """Which alerts are inhibited while certain others fire.

    Args:
        rules: that say so.
        firing: labels of all alerts that fire now.
    """

    def __init__(self, rules: Collection[Inhibition], firing: Collection[Mapping[str, str]]) -> None:
        # By rule: for each combination of the equal labels whether a source that is no target has it, or any has.
        self._sources: list[tuple[Inhibition, dict[tuple[str, ...], bool]]] = []
        for rule in rules:
            sources: dict[tuple[str, ...], bool] = {}
            for labels in firing:
                if all_match(rule.source, labels):
                    key = _equal(rule, labels)
                    sources[key] = sources.get(key, False) or not all_match(rule.target, labels)
            self._sources.append((rule, sources))

    def hold(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is inhibited."""
        for rule, sources in self._sources:
            source_alone = sources.get(_equal(rule, labels))
            if source_alone is None or not all_match(rule.target, labels):
                continue
            if source_alone or not all_match(rule.source, labels):
                return True
        return False


def _equal(rule: Inhibition, labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple([labels.get(name, "") for name in rule.equal])
