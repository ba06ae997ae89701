"""Personal data: Presidio's recognizers, run only where one linear-time scan says that they can find something."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.metadata import version as installed
from typing import Any

from llmguard.detectors import pii_options as options
from llmguard.detectors.entities import EntityReader
from llmguard.detectors.model_options import ModelOptions
from llmguard.detectors.pii_engine import analyzer, model_engine
from llmguard.detectors.pii_growing import Growing
from llmguard.detectors.pii_nlp import Surroundings
from llmguard.detectors.pii_proxy import prepare, proxy
from llmguard.detectors.pii_recognizers import build
from llmguard.detectors.pii_results import Hit, without_duplicates
from llmguard.detectors.pii_rules import settle as settled
from llmguard.detectors.pii_sources import Job, PhoneJob, Schedule, Source, plan
from llmguard.errors import ConfigurationError
from llmguard.types import Finding, Scope, Text

_LIFT = 0.35
_LIFTED = 0.4
"""What a context word adds to a score, and the least it then is: Presidio's defaults."""

NAMES = frozenset({"LOCATION", "ORGANIZATION", "PERSON", "STREET_ADDRESS"})
"""What only a model finds."""

DEFAULT_MODEL = "guard-mini"
_SURE = 0.5


class PiiDetector:
    """Finds personal data by Presidio's recognizers; needs no language model.

    The findings are those of Presidio's ``AnalyzerEngine`` with the same recognizers and NLP engine, with
    known false hits settled by ``pii_rules``. Names, places, organisations and addresses come with ``names``, by a
    model of ours, or with ``nlp``, by one that Presidio knows. With a model the detector is neither inline nor of
    scope ``span`` any more.

    Args:
        languages: what texts are in; recognizers and context words are chosen by it.
        countries: country codes whose recognizers all run beside the generic ones, or "all"; by default
            those that Presidio itself switches on.
        entities: the only ones to look for.
        allow_list: what is never reported.
        allow_list_match: ``exact``, or ``regex`` to search finds for any of the list's patterns.
        deny_list: words that are always reported, by entity; a bare list as ``DENY_LIST``.
        thresholds: least score by entity.
        score_threshold: least score of the other entities.
        recognizers: further recognizers in Presidio's form: a list of mappings, or the path of a YAML file.
        nlp: ``none``, or a mapping with ``engine`` (``spacy``, ``transformers``) and ``model``, which must be
            installed; Presidio's own engine then does all of the work.
        settle: whether known false hits are removed.
        names: ``none``, or the model for names: ``guard-mini``, a directory or ``hf://…``. A policy whose rules name
            one of ``NAMES`` gets ``guard-mini`` without saying so here.
        device: of that model: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt``.
        runtime: likewise: ``auto``, ``onnxruntime``, ``openvino``.
        precision: likewise: ``auto``, ``fp32``, ``fp16``, ``bf16``, ``int8``.
        threads: likewise, for one run; None for all cores.

    Raises:
        ConfigurationError: an option is wrong, or a model is not installed.
        MissingExtraError: Presidio is not installed.
    """

    name = "pii"

    def __init__(
        self,
        *,
        languages: Iterable[str] = ("en",),
        countries: Iterable[str] | str | None = None,
        entities: Iterable[str] | None = None,
        allow_list: Iterable[str] = (),
        allow_list_match: str = "exact",
        deny_list: Mapping[str, Iterable[str]] | Iterable[str] = (),
        thresholds: Mapping[str, float] | None = None,
        score_threshold: float = 0.0,
        recognizers: str | Sequence[Mapping[str, Any]] = (),
        nlp: str | Mapping[str, Any] = "none",
        settle: bool = True,
        names: str = "none",
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> None:
        self._options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self._languages = options.languages(languages)
        self._allowed, match = options.allow_list(allow_list, allow_list_match)
        self._allowed_patterns = _compiled(self._allowed) if match == "regex" else None
        self._settle = options.flag("settle", settle)
        self._threshold = options.score("score_threshold", score_threshold)
        self._thresholds = options.thresholds(thresholds or {})
        engine = options.nlp(nlp)
        made = build(
            self._languages,
            options.countries(countries),
            options.listed(recognizers),
            options.deny_list(deny_list),
        )
        loaded = model_engine(engine, self._languages) if engine else None
        known = {entity for recognizer in made for entity in recognizer.supported_entities}
        if loaded:
            known.update(loaded.get_supported_entities())
        self._names = _reader(names, ModelOptions(names, device, runtime, precision, threads))
        self.inline = self._names is None
        self.scope = Scope.DOCUMENT if loaded or self._names else Scope.SPAN
        if self._names:
            known.update(self._names.categories)
        chosen = options.entities(entities, known)
        for entity in self._thresholds:
            options.check_entity("thresholds", entity, known)
        self.categories: frozenset[str] = chosen or frozenset(known)
        self.recognizers = [found for found in made if not self.categories.isdisjoint(found.supported_entities)]
        self.version = f"1+presidio.{installed('presidio-analyzer')}"
        if self._names:
            self.version += f"+{self._names.version}"
        self._analyzer: Any = self._with_model(loaded) if loaded else None
        self._growing: Growing | None = None
        if self._analyzer is None:
            self._compile()

    def _compile(self) -> None:
        self._sources, usual, other = plan(self.recognizers, self._thresholds, self._threshold)
        self._schedule, self._schedule_rare = schedules = Schedule(usual), Schedule(other)
        if self.scope is Scope.SPAN:
            complete = all(job.prefilter for job in (*usual, *other))
            self._growing = Growing(self.recognizers, schedules, complete=complete)
        limits = [source.threshold for source in self._sources if source.category == "IP_ADDRESS"]
        self._addresses_stay = self._settle and max(limits, default=0.0) == 0
        self._reasons = [((source.name,), (source.name, "context")) for source in self._sources]
        prepare()

    def _with_model(self, engine: Any) -> Any:
        for recognizer in self.recognizers:
            limits = {k: v for k, v in self._thresholds.items() if k in recognizer.supported_entities}
            recognizer.score_thresholds = {**recognizer.score_thresholds, **limits}
        made = analyzer(self.recognizers, engine, self._languages, self._threshold)
        made.registry.add_nlp_recognizer(engine)
        return made

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """The personal data in each text, by place.

        Args:
            texts: what to look at.
        """
        found = [self._findings(text.content) for text in texts]
        if self._names is None:
            return found
        named = self._names.findings([text.content for text in texts])
        return [self._joined(text.content, own, names) for text, own, names in zip(texts, found, named, strict=True)]

    def settled(self, text: str) -> int:
        """Up to where the findings are final, whatever follows the text (``Incremental``).

        Always 0 with a model, whose findings depend on all of the text, and with a pattern of one's own that RE2 does
        not know.
        """
        return self._growing.settled(text) if self._growing else 0

    def context(self, text: str, start: int) -> int:
        """From where on a text must be looked at to find what starts at or after a place (``Incremental``).

        That is where some words before the place no match is under way; 0 where nothing can be said.
        """
        return self._growing.context(text, start) if self._growing else 0

    def _joined(self, text: str, found: list[Finding], names: list[Finding]) -> list[Finding]:
        """Both, by place, without names that lie in a find of a pattern, are not asked for, or are allowed."""
        taken = [finding.span for finding in found if finding.span and finding.score >= _SURE]
        kept = [
            name
            for name in names
            if name.span
            and name.category in self.categories
            and name.score >= self._thresholds.get(name.category, self._threshold)
            and not any(start <= name.span[0] and name.span[1] <= end for start, end in taken)
        ]
        hits = self._not_allowed(text, [Hit(name.category, *name.span, name.score) for name in kept if name.span])
        if len(hits) < len(kept):
            spans = {(hit.category, hit.start, hit.end) for hit in hits}
            kept = [name for name in kept if (name.category, *(name.span or ())) in spans]
        return sorted([*found, *kept], key=lambda finding: (finding.span or (0, 0), finding.category))

    @staticmethod
    def for_categories(options: Mapping[str, Any], wanted: Collection[str]) -> Mapping[str, Any]:
        """The options for those who want certain categories: names need a model, and are found when asked for."""
        if "names" in options or options.get("nlp", "none") != "none" or NAMES.isdisjoint(wanted):
            return options
        return {**options, "names": DEFAULT_MODEL}

    def _findings(self, text: str) -> list[Finding]:
        if self._analyzer is not None:
            hits = self._by_engine(text)
            reasons: Any = None
        else:
            data, rare = proxy(text)
            jobs = (self._schedule_rare if rare else self._schedule).due(data)
            if not jobs:
                return []
            hits = self._hits(text, data, jobs)
            reasons = self._reasons
        if not hits:
            return []
        if self._settle:
            # Before the allow list: the host of an allowed e-mail address is no web address either.
            hits = settled(hits, text)
        hits = self._not_allowed(text, hits)
        hits.sort(key=lambda hit: (hit.start, hit.end, hit.category))
        return [
            Finding(
                hit.category,
                hit.score,
                (hit.start, hit.end),
                reasons=reasons[hit.source][hit.lifted] if reasons else (),
            )
            for hit in hits
        ]

    def _hits(self, text: str, data: bytes, jobs: Iterable[Job]) -> list[Hit]:
        """What Presidio's engine would find."""
        raw: dict[int, list[Hit]] = {}
        addresses: set[tuple[int, int]] = set()
        for job in jobs:
            # A phone number that is an IP address gives way to it in the end: it is not even looked at.
            found = job.hits(text, data, addresses) if isinstance(job, PhoneJob) else job.hits(text, data)
            for hit in found:
                if hit.category == "IP_ADDRESS" and self._addresses_stay:
                    addresses.add((hit.start, hit.end))
                raw.setdefault(hit.source, []).append(hit)
        hits: list[Hit] = []
        # By recognizer, so that which of two equal finds stays does not depend on the rest of the text.
        for index, own in sorted(raw.items()):
            alone = len(own) == 1 or self._sources[index].in_groups
            hits += own if alone else without_duplicates(own)
        hits = self._lifted(text, hits)
        hits = [hit for hit in hits if hit.score >= self._sources[hit.source].threshold]
        return without_duplicates(hits)

    def _lifted(self, text: str, hits: list[Hit]) -> list[Hit]:
        """The finds, with those near a context word of their recognizer scored higher; 1 can't be lifted."""
        sources = self._sources
        around = Surroundings(text, [hit.start for hit in hits if hit.score < 1 and sources[hit.source].context])
        lifted = []
        for hit in hits:
            source: Source = sources[hit.source]
            if hit.score < 1 and source.context and around.support(hit.start, hit.source, source.context):
                score = min(max(hit.score + _LIFT, _LIFTED), 1.0)
                lifted.append(Hit(hit.category, hit.start, hit.end, score, hit.source, lifted=True))
            else:
                lifted.append(hit)
        return lifted

    def _not_allowed(self, text: str, hits: list[Hit]) -> list[Hit]:
        if self._allowed_patterns is not None:
            return [hit for hit in hits if not self._allowed_patterns.search(text[hit.start : hit.end])]
        if not self._allowed:
            return hits
        return [hit for hit in hits if text[hit.start : hit.end] not in self._allowed]

    def _by_engine(self, text: str) -> list[Hit]:
        found: list[Hit] = []
        for language in self._languages:
            results = self._analyzer.analyze(text=text, language=language)
            found += [
                Hit(result.entity_type, result.start, result.end, float(result.score))
                for result in results
                if result.entity_type in self.categories
            ]
        return without_duplicates(found)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), **self._options), ()


def _reader(names: object, model: ModelOptions) -> EntityReader | None:
    if not isinstance(names, str) or not names:
        raise ConfigurationError(f"option 'names' of detector 'pii' must be 'none' or a model, not {names!r}")
    return None if names == "none" else EntityReader(model)


def _compiled(allowed: Sequence[str]) -> Any:
    """One pattern for all of a list, with the flags that Presidio searches an allow list with.

    Raises:
        ConfigurationError: one of them is not a pattern.
    """
    import regex

    try:
        return regex.compile("|".join(allowed), regex.DOTALL | regex.MULTILINE | regex.IGNORECASE) if allowed else None
    except regex.error as error:
        raise ConfigurationError(f"option 'allow_list' of detector 'pii' holds no pattern: {error}") from None
