"""The figures of a whole directory of labelled sets in one go, each set by the detector that it is for.

docs/evaluation.md says which directories there may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmguard.errors import ConfigurationError
from llmguard.evaluation import Report, asked_for, evaluate
from llmguard.examples import Example, Kind, read
from llmguard.fairness_evaluation import Options, detectors_judge, evaluate_fairness
from llmguard.types import Role

if TYPE_CHECKING:
    import os

    from llmguard.types import Detector

Load = Callable[[str, Mapping[str, Any], frozenset[str]], "Detector"]
"""Name, options and wanted categories in, a detector out."""

#: Directories that a suite may have.
FOLDERS = ("toxicity", "injection", "indirect", "benign", "pii", "groundedness")
_ENTITIES = ("PERSON", "LOCATION", "ORGANIZATION")
# Template sentences about groups of people, for which the worst term is told.
_TEMPLATES = "madlibs"


@dataclass(frozen=True, slots=True)
class SuiteFigure:
    """One figure of one set, or of several together.

    Attributes:
        figure: what it is.
        of: the set's name; "all" or "mean" for several.
        value: None where it is not defined.
        texts: that it is over.
    """

    figure: str
    of: str
    value: float | None
    texts: int


Sets = Mapping[str, Sequence[Example]]


def run_suite(
    directory: str | os.PathLike[str],
    load: Load,
    *,
    limit: int | None = None,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[SuiteFigure]:
    """The figures of all sets under a directory, as soon as they are known.

    Args:
        directory: with at least one of `FOLDERS`, in each of which are files of labelled texts.
        load: makes a detector.
        limit: the first so many examples of each file.
        batch_size: texts a call.
        progress: called with the texts done so far and all of them, of the sets under way.

    Raises:
        ConfigurationError: there is no such directory, or nothing known in it; a file or a detector is wrong.
        DetectorError: a detector failed.
    """
    root = Path(directory)
    found = {folder: _sets(root / folder, limit) for folder in FOLDERS}
    if not any(found.values()):
        raise ConfigurationError(f"no labelled texts in any of {', '.join(FOLDERS)}", source=str(root))

    def report(detector: str, examples: Sequence[Example], role: Role = Role.USER) -> Report:
        counted = _ENTITIES if detector == "pii" else ()
        made = load(detector, {}, asked_for(examples, counted, {}))
        known = [name for name in counted if name in made.categories]
        return evaluate(
            [made], examples, categories=known, role=role, batch_size=batch_size, timed_texts=1, progress=progress
        )

    for name, examples in found["toxicity"].items():
        yield _auc("toxicity AUC", name, report("toxicity", examples))
        if _TEMPLATES in name:
            judge = detectors_judge([load("toxicity", {}, frozenset())])
            fair = evaluate_fairness(judge, examples, Options(swaps=0, batch_size=batch_size), progress=progress)
            worst = fair.worst.get("bpsn_auc")
            of = name if worst is None else f"{name}: {worst.term}"
            yield SuiteFigure("worst BPSN AUC of a term", of, None if worst is None else worst.auc, fair.texts)
    yield from _injection(found["injection"], found["benign"], report)
    for name, examples in found["indirect"].items():
        yield _auc("injection AUC in tool results", name, report("prompt_injection", examples, Role.TOOL))
    for name, examples in found["pii"].items():
        for category, own in report("pii", examples).per_category.items():
            yield SuiteFigure(f"{category} overlap F1", name, own.overlap_f1, own.texts)
    grounded = [
        _auc("groundedness AUC", name, report("groundedness", own)) for name, own in found["groundedness"].items()
    ]
    yield from grounded
    if len(values := [one.value for one in grounded if one.value is not None]) > 1:
        yield SuiteFigure("groundedness AUC", "mean", float(np.mean(values)), sum(one.texts for one in grounded))


def _injection(
    attacks: Sets, benign: Sets, report: Callable[[str, Sequence[Example]], Report]
) -> Iterator[SuiteFigure]:
    pooled = [example for sets in (attacks, benign) for own in sets.values() for example in own]
    if not pooled:
        return
    said = report("prompt_injection", pooled)
    figure = "injection recall, 1 % FP of the pool"
    yield SuiteFigure(figure, "all", said.overall.recall_at_1pct_fpr, said.overall.positives)
    for name, own in said.per_source.items():
        if own.positives:
            yield SuiteFigure(figure, name, own.recall_at_pooled_1pct_fpr, own.positives)
    for name, own in said.per_source.items():
        if own.positives < own.texts:
            negatives = own.texts - own.positives
            yield SuiteFigure("injection FP there", name, own.fpr_at_pooled_1pct_fpr, negatives)


def _auc(figure: str, name: str, report: Report) -> SuiteFigure:
    return SuiteFigure(figure, name, report.overall.auc, report.overall.texts)


def _sets(folder: Path, limit: int | None) -> dict[str, list[Example]]:
    """The sets of a directory by name; those of another kind than the detectors of it look at are errors there."""
    paths = sorted(path for path in folder.glob("*.jsonl*") if path.suffix in (".jsonl", ".gz"))
    wanted = {"pii": Kind.SPANS, "groundedness": Kind.GROUNDEDNESS}.get(folder.name, Kind.CLASSIFICATION)
    sets: dict[str, list[Example]] = {}
    for path in paths:
        name = path.name.partition(".")[0]
        if name in sets:
            raise ConfigurationError(f"two files named {name!r} up to the first dot: rename one", source=str(folder))
        sets[name] = examples = read(path, limit=limit)
        if examples[0].kind is not wanted:
            raise ConfigurationError(f"{name} is of the kind {examples[0].kind}, not {wanted}", source=str(folder))
    return sets
