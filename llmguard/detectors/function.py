"""A detector of your own, written as a function."""

from __future__ import annotations

import functools
import inspect
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llmguard.detectors.names import check_categories, check_name
from llmguard.errors import ConfigurationError, DetectorError, nearest
from llmguard.types import Finding, Scope, Text

OneText = Callable[[str], Iterable[Finding]]
ManyTexts = Callable[[Sequence[str]], Sequence[Iterable[Finding]]]


class FunctionDetector:
    """A function that is also a detector; calling it calls the function.

    It pickles when the function stands at the top level of a module.

    Args:
        function: text in, findings out; with ``batch`` a list of texts in, one list of findings a text out.
        name: in policies and telemetry.
        categories: the closed set that its findings come from.
        scope: how much of a text it must see before its findings are final.
        version: change it whenever the findings may change.
        inline: whether it takes microseconds and linear time, so that it may run on the caller's thread.
        batch: whether the function takes all texts at once.

    Raises:
        ConfigurationError: an argument is wrong, or the function is async or does not take exactly one argument.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        name: str,
        categories: Iterable[str],
        scope: Scope | str = Scope.SPAN,
        version: str = "1",
        inline: bool = False,
        batch: bool = False,
    ) -> None:
        _check_function(check_name(name), function)
        functools.update_wrapper(self, function)
        self.name = name
        self.categories = check_categories(categories)
        self.scope = _scope(scope)
        if not isinstance(version, str) or not version:
            raise ConfigurationError(f"detector {name!r}: version must be a non-empty string, not {version!r}")
        self.version = version
        self.inline = bool(inline)
        self.batch = bool(batch)
        self._function = function

    def __call__(self, texts: Any) -> Any:
        """What the function answers."""
        return self._function(texts)

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """The function's findings.

        Raises:
            DetectorError: the function's answer is no list of findings.
        """
        if self.batch:
            answers = self._listed(self._function([text.content for text in texts]))
            return [self._listed(answer) for answer in answers]
        return [self._listed(self._function(text.content)) for text in texts]

    def _listed(self, answer: Any) -> list[Any]:
        if isinstance(answer, list):
            return answer
        if inspect.iscoroutine(answer):
            answer.close()
        if not isinstance(answer, Iterable) or isinstance(answer, str):
            raise DetectorError(
                self.name, f"the function answered with {type(answer).__name__}; return or yield findings"
            )
        return list(answer)

    def __repr__(self) -> str:
        return f"<detector {self.name!r} version {self.version!r}>"

    def _arguments(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("name", "categories", "scope", "version", "inline", "batch")}

    def __reduce__(self) -> Any:
        module = sys.modules.get(self._function.__module__)
        qualname = getattr(self._function, "__qualname__", "")
        try:
            decorated = operator.attrgetter(qualname)(module) is self
        except AttributeError:
            decorated = False
        if decorated:
            return qualname
        return functools.partial(type(self), self._function, **self._arguments()), ()


class ReachingDetector(FunctionDetector):
    """A function of scope ``span`` that says how far it looks, so that a stream need not wait for its end.

    Args:
        function: as `FunctionDetector` takes it.
        reach: how many code points around the place where a finding starts decide about it: whether it is there, where
            it ends, its category, score and reasons depend on ``text[start - reach:start + reach]`` alone. No finding
            is longer.
        options: the other arguments of `FunctionDetector`.

    Raises:
        ConfigurationError: the reach is no whole number of at least 1, the scope is another one, or as there.
    """

    def __init__(self, function: Callable[[Any], Any], *, reach: int, **options: Any) -> None:
        super().__init__(function, **options)
        self.reach = _reach(self.name, reach, self.scope)

    def settled(self, text: str) -> int:
        """Up to where the findings are final: all but the last ``reach`` code points."""
        return max(0, len(text) - self.reach)

    def context(self, text: str, start: int) -> int:
        """From where to look for what starts at or after ``start``: ``reach`` code points before it."""
        return max(0, start - self.reach)

    def _arguments(self) -> dict[str, Any]:
        return {**super()._arguments(), "reach": self.reach}


def detector(
    name: str,
    *,
    categories: Iterable[str],
    scope: Scope | str = Scope.SPAN,
    version: str = "1",
    inline: bool = False,
    batch: bool = False,
    reach: int | None = None,
) -> Callable[[Callable[[Any], Any]], FunctionDetector]:
    """Makes a detector of a function; see `FunctionDetector` for the arguments, `ReachingDetector` for ``reach``.

    Without ``reach`` nothing is known of how far the function looks: a stream that it checks is held back to its end.

    Example:
        >>> import re
        >>> @detector("competitor", categories=["MENTION"])
        ... def competitor(text):
        ...     for match in re.finditer("acme", text, re.IGNORECASE):
        ...         yield Finding("MENTION", 0.9, match.span())
        >>> [finding.span for finding in competitor("Is ACME better?")]
        [(3, 7)]

    Raises:
        ConfigurationError: an argument is wrong, or the function is no function of one text.
    """
    if not isinstance(name, str):
        raise ConfigurationError('a detector needs a name: write @detector("name", categories=[...])')
    options: dict[str, Any] = {
        "name": check_name(name),
        "categories": check_categories(categories),
        "scope": _scope(scope),
        "version": version,
        "inline": inline,
        "batch": batch,
    }
    if reach is None:
        return functools.partial(FunctionDetector, **options)
    return functools.partial(ReachingDetector, reach=_reach(name, reach, options["scope"]), **options)


def _reach(name: str, reach: Any, scope: Scope) -> int:
    if not isinstance(reach, int) or isinstance(reach, bool) or reach < 1:
        raise ConfigurationError(f"detector {name!r}: reach must be a whole number of at least 1, not {reach!r}")
    if scope is not Scope.SPAN:
        raise ConfigurationError(f"detector {name!r}: reach goes with the scope span, not {str(scope)!r}")
    return reach


def _scope(scope: Any) -> Scope:
    try:
        return Scope(scope)
    except ValueError:
        raise ConfigurationError(f"unknown scope {scope!r}{nearest(str(scope), [str(one) for one in Scope])}") from None


def _check_function(name: str, function: Any) -> None:
    if not callable(function):
        raise ConfigurationError(f"detector {name!r}: a function is needed, not {type(function).__name__}")
    call = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in (function, call)):
        raise ConfigurationError(
            f"detector {name!r}: the function is async; a detector answers at once (slow ones run on a thread, "
            "which inline=False sees to)"
        )
    try:
        inspect.signature(function).bind("")
    except TypeError:
        raise ConfigurationError(
            f"detector {name!r}: the function must take exactly one argument, the text (or with batch=True the texts)"
        ) from None
    except ValueError:  # a function written in C that does not tell its signature
        return
