"""What a call of a model costs, by a price table that its user gives. No price is built in: they change, and differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from llmguard.errors import ConfigurationError, nearest

_MILLION = 1_000_000
_FIELDS = ("input", "output", "cached")


class Tokens(Protocol):
    """Tokens that a provider counted; None where it does not say."""

    @property
    def input(self) -> int | None:
        """Of the request, cached ones included."""
        ...

    @property
    def output(self) -> int | None:
        """Of the answer, reasoning included."""
        ...

    @property
    def cached(self) -> int | None:
        """Of the input, those that came from a cache."""
        ...

    @property
    def reasoning(self) -> int | None:
        """Of the output, those that were not shown."""
        ...


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens of a model cost, in USD.

    Attributes:
        input: of the request.
        output: of the answer, reasoning included; 0 for a model that only reads, as for embeddings.
        cached: of the request where they came from a cache; None charges them as ``input``.

    Raises:
        ConfigurationError: a price is no finite number from 0 up.
    """

    input: float
    output: float = 0.0
    cached: float | None = None

    def __post_init__(self) -> None:
        for name in _FIELDS:
            value = getattr(self, name)
            if value is None and name == "cached":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ConfigurationError(f"{name}: {value!r} is no price: a number of USD, from 0 up")

    def cost(self, tokens: Tokens) -> float | None:
        """USD for these tokens; None where a count that costs something is not known."""
        read, written = tokens.input, tokens.output
        if (read is None and self.input) or (written is None and self.output) or (read is None and written is None):
            return None
        read, written = read or 0, written or 0
        cached = min(tokens.cached or 0, read)
        reused = self.input if self.cached is None else self.cached
        return ((read - cached) * self.input + cached * reused + written * self.output) / _MILLION


class Prices:
    """Prices by model. A name that ends in ``*`` stands for all that begin so; the longest that fits is taken.

    A model that no name fits has no cost, never a guess.

    Args:
        table: a `Price`, or a mapping with its fields, by the name of the model.

    Raises:
        ConfigurationError: a name or a price is wrong; says which.
    """

    __slots__ = ("_beginnings", "_names")

    def __init__(self, table: Mapping[str, Price | Mapping[str, float]]) -> None:
        self._names: dict[str, Price] = {}
        self._beginnings: dict[str, Price] = {}
        for name, said in table.items():
            if not isinstance(name, str) or "*" in name[:-1] or not name:
                raise ConfigurationError(f"{name!r} is no model: a name, or the beginning of names with a * behind it")
            price = said if isinstance(said, Price) else _price(name, said)
            if name.endswith("*"):
                self._beginnings[name[:-1]] = price
            else:
                self._names[name] = price

    @classmethod
    def from_any(cls, source: Prices | Mapping[str, Price | Mapping[str, float]] | str | Path) -> Prices:
        """Prices from a table, or from a YAML or JSON file that holds one.

        Raises:
            ConfigurationError: the file can't be read, or is no price table; names the file.
        """
        if isinstance(source, Prices):
            return source
        if isinstance(source, str | Path):
            path = Path(source).expanduser()
            try:
                read = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise ConfigurationError(f"can't be read: {type(error).__name__}", source=str(path)) from None
            try:
                return cls(_table(read))
            except ConfigurationError as error:
                raise ConfigurationError(error.message, source=str(path)) from None
        return cls(_table(source))

    def __len__(self) -> int:
        return len(self._names) + len(self._beginnings)

    def of(self, model: str) -> Price | None:
        """What the model's tokens cost; None for one that the table does not have."""
        if (price := self._names.get(model)) is not None:
            return price
        fitting = [beginning for beginning in self._beginnings if model.startswith(beginning)]
        return self._beginnings[max(fitting, key=len)] if fitting and model else None

    def cost(self, models: tuple[str, ...], tokens: Tokens) -> float | None:
        """USD for the tokens of a call.

        Args:
            models: by whose price: the first of them that the table has. The one that answered goes first, then
                the one that was asked for, which may be an alias.
            tokens: of the call.

        Returns:
            None where the table has none of the models, or a count is not known.
        """
        for model in models:
            if (price := self.of(model)) is not None:
                return price.cost(tokens)
        return None


def _table(read: object) -> Mapping[str, Price | Mapping[str, float]]:
    if not isinstance(read, Mapping):
        raise ConfigurationError("a price table maps models to prices")
    return read


def _price(model: str, said: object) -> Price:
    if not isinstance(said, Mapping):
        raise ConfigurationError(f"{model}: a price is a mapping with {', '.join(_FIELDS)}")
    for name in said:
        if name not in _FIELDS:
            raise ConfigurationError(f"{model}.{name} is no price{nearest(str(name), _FIELDS)}")
    if "input" not in said:
        raise ConfigurationError(f"{model}.input is missing")
    try:
        return Price(**said)
    except ConfigurationError as error:
        raise ConfigurationError(f"{model}.{error.message}") from None
