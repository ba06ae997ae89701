"""Which features of inputs, answers and calls a `DriftMonitor` follows, and how each is read off an observation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmguard.detectors.drift_bins import Layout
from llmguard.errors import ConfigurationError, nearest
from llmguard.types import Observation, Outcome, Stage

NAN = float("nan")
#: The table of what has ended as a whole, and that of values that the caller records.
CALL, OWN = "call", "record"
SOURCES = (Stage.INPUT.value, Stage.OUTPUT.value, CALL, OWN)
_LOG, _UNIT = Layout("log"), Layout("linear")
# Words of English are 1.3 tokens with common vocabularies; other scripts about one for two characters.
_TOKENS_A_WORD, _TOKENS_A_CHARACTER = 1.3, 0.5


@dataclass(frozen=True, slots=True)
class Numeric:
    """A number of each call.

    Attributes:
        name: in reports and telemetry.
        of: reads it off an observation; None or NaN where there is none. Without it the value is given to
            `DriftMonitor.record`.
        source: which observations have it: ``input``, ``output``, ``call``, or ``record``.
        low: the least value, where the range is known; the bins are then of the same width.
        high: the greatest value.
    """

    name: str
    of: Callable[[Observation], float | None] | None = None
    source: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def layout(self) -> Layout:
        """Of its bins."""
        if (self.low is None) != (self.high is None):
            raise ConfigurationError(f"the feature {self.name!r} has half a range: give low and high, or neither")
        return Layout("signed") if self.low is None or self.high is None else Layout("linear", self.low, self.high)


@dataclass(frozen=True, slots=True)
class Category:
    """A word of each call from a set that is not too large, such as its language; never a text.

    Attributes:
        name: in reports and telemetry.
        of: reads it off an observation; None where there is none. See `Numeric`.
        source: see `Numeric`.
    """

    name: str
    of: Callable[[Observation], str | None] | None = None
    source: str = ""

    @property
    def layout(self) -> Layout:
        """Of its bins."""
        return Layout("category")


@dataclass(frozen=True, slots=True)
class Spec:
    """A column of a table: its name, its bins, and how it is read; ``fine`` for values far below 1, such as prices."""

    name: str
    layout: Layout
    of: Callable[[Observation], float | str | None] | None
    fine: bool = False


def _length(seen: Observation) -> float:
    return float(sum([len(text.content) for text in seen.texts]))


def _tokens(seen: Observation) -> float:
    """An estimate, without a vocabulary."""
    count = 0.0
    for text in seen.texts:
        if text.content.isascii():
            count += (text.content.count(" ") + 1) * _TOKENS_A_WORD
        else:
            count += len(text.content) * _TOKENS_A_CHARACTER
    return count


def _refused(seen: Observation) -> float | None:
    """1 for an answer that refuses, where somebody looked for it."""
    decision = seen.decision
    if decision is None or not any([run.detector == "refusal" and run.outcome in _RAN for run in decision.runs]):
        return None
    return float(any([found.category == "REFUSAL" for found in decision.findings]))


_RAN = frozenset({Outcome.PASS, Outcome.HIT})
_BY_STAGE: dict[str, tuple[Layout, Callable[[Observation], float | None]]] = {
    "length": (_LOG, _length),
    "tokens": (_LOG, _tokens),
}
_NUMBERS = ("latency", "time_to_first_chunk", "input_tokens", "output_tokens", "cost")
#: What is followed unless told otherwise.
DEFAULT = ("length", "tokens", "scores", "refusal", *_NUMBERS)
#: What has to be learnt first, or needs a package.
LEARNT = ("topic", "token_histogram", "language")
KNOWN = (*DEFAULT, *LEARNT)


def _number(name: str) -> Callable[[Observation], float | None]:
    return lambda seen: seen.numbers.get(name)


def specs(features: Iterable[str | Numeric | Category], source: str) -> list[Spec]:
    """The columns of one source, those of detectors' scores and of what is learnt not among them.

    Args:
        features: names of `KNOWN`, and own ones.
        source: one of `SOURCES`.
    """
    made = []
    for feature in features:
        if not isinstance(feature, str):
            if source_of(feature) == source:
                made.append(Spec(feature.name, feature.layout, feature.of))
        elif feature in _BY_STAGE and source in (Stage.INPUT, Stage.OUTPUT):
            layout, of = _BY_STAGE[feature]
            made.append(Spec(f"{source}.{feature}", layout, of))
        elif feature == "refusal" and source == Stage.OUTPUT:
            made.append(Spec("output.refusal", _UNIT, _refused, fine=True))
        elif feature in _NUMBERS and source == CALL:
            made.append(Spec(feature, _LOG, _number(feature), fine=feature == "cost"))
    return made


def source_of(feature: Numeric | Category) -> str:
    """Which observations have an own feature."""
    return feature.source or (OWN if feature.of is None else CALL)


def checked(features: Iterable[str | Numeric | Category]) -> tuple[str | Numeric | Category, ...]:
    """The features, when all of them are.

    Raises:
        ConfigurationError: one is unknown, or none, or two have the same name; says which.
    """
    if isinstance(features, str):
        raise ConfigurationError(f"features must be a list, as in features=[{features!r}], not one word")
    chosen = tuple(features)
    if not chosen:
        raise ConfigurationError(
            f"without a feature nothing can drift: leave features out, or name some of {', '.join(KNOWN)}"
        )
    names: set[str] = set()
    for feature in chosen:
        if isinstance(feature, str):
            if feature not in KNOWN:
                raise ConfigurationError(f"there is no feature {feature!r}{nearest(feature, KNOWN)}")
        elif isinstance(feature, Numeric | Category):
            _check_own(feature)
        else:
            raise ConfigurationError(
                f"a feature is a name, a Numeric or a Category, not {type(feature).__name__}: Numeric('hour', of=...)"
            )
        name = feature if isinstance(feature, str) else feature.name
        if name in names:
            raise ConfigurationError(f"two features are named {name!r}")
        names.add(name)
    return chosen


def _check_own(feature: Numeric | Category) -> None:
    if not isinstance(feature.name, str) or not feature.name:
        raise ConfigurationError(f"a feature's name must be a string that is not empty, not {feature.name!r}")
    source = source_of(feature)
    if source not in SOURCES:
        raise ConfigurationError(f"the feature {feature.name!r} has no source {source!r}{nearest(source, SOURCES)}")
    if (source == OWN) != (feature.of is None):
        raise ConfigurationError(
            f"the feature {feature.name!r} must either be read off observations (of=...) or be given to record()"
        )
    _ = feature.layout


def scores(seen: Observation) -> dict[str, float]:
    """The highest score of each detector that could say, 0 where it found nothing."""
    decision = seen.decision
    if decision is None:
        return {}
    best = {run.detector: 0.0 for run in decision.runs if run.outcome in _RAN}
    for found in decision.findings:
        if found.score > best.get(found.detector, 2.0):
            best[found.detector] = found.score
    return best


def score_spec(source: str, detector: str) -> Spec:
    """The column of one detector's scores."""
    return Spec(f"{source}.score.{detector}", _UNIT, None, fine=True)
