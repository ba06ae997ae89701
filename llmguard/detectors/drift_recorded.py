"""Values that a caller records by hand, checked: each of a known feature, and of its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.detectors.drift_features import Spec
from llmguard.errors import ConfigurationError

_FLOATS = {float}


class Recorded:
    """The features that are recorded.

    Args:
        specs: of their columns.
    """

    def __init__(self, specs: Sequence[Spec]) -> None:
        self._kinds: dict[str, type | tuple[type, ...]] = {
            spec.name: str if spec.layout.kind == "category" else (int, float) for spec in specs
        }
        self._plain = str not in self._kinds.values()

    def row(self, values: Mapping[str, float | str | None]) -> list[float | str | None]:
        """The values in the order of the columns, None where one is missing.

        Raises:
            ConfigurationError: there is no such feature, or its value is of another kind.
        """
        if not values.keys() <= self._kinds.keys():
            known = ", ".join(self._kinds) or "none: give features=[Numeric(name)]"
            raise ConfigurationError(f"no feature {min(values.keys() - self._kinds)!r} is recorded (known: {known})")
        row = list(map(values.get, self._kinds))
        for name, kind in self._kinds.items() if not self._plain or set(map(type, row)) != _FLOATS else ():
            value = values.get(name)
            if value is not None and not isinstance(value, kind):
                right = "a word" if kind is str else "a number"
                raise ConfigurationError(f"the feature {name!r} is {right}, not a {type(value).__name__}")
        return row
