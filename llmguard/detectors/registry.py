"""Which detectors are installed, and how one is made from its name and options."""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from llmguard.detectors.names import check_categories, check_name
from llmguard.errors import ConfigurationError, LlmGuardError, nearest
from llmguard.types import Detector, Scope

GROUP = "llmguard.detectors"
_PARTS = ("name", "version", "scope", "categories", "inline", "detect")


@functools.cache
def available() -> Mapping[str, EntryPoint]:
    """The installed detectors by name.

    Looked up once; ``available.cache_clear()`` makes it look again.

    Raises:
        ConfigurationError: two distributions bring different detectors of the same name.
    """
    found: dict[str, list[EntryPoint]] = defaultdict(list)
    for entry in entry_points(group=GROUP):
        found[entry.name].append(entry)
    for name, entries in found.items():
        if len({(entry.value, _origin(entry)) for entry in entries}) > 1:
            who = ", ".join(sorted(f"{_origin(entry)} ({entry.value})" for entry in entries))
            raise ConfigurationError(f"the detector {name!r} is there more than once: {who}; uninstall all but one")
    return MappingProxyType({name: entries.pop() for name, entries in sorted(found.items())})


def load(name: str, options: Mapping[str, object] | None = None, wanted: Collection[str] = ()) -> Detector:
    """The detector of this name, made with these options.

    The entry point names a class or a function that takes the options as keyword arguments, or a
    detector that is ready (such as a decorated function), which takes none.

    Args:
        name: of an entry point in the group ``llmguard.detectors``.
        options: keyword arguments, as a policy file gives them.
        wanted: categories that are asked for by name. A class with a static method ``for_categories(options, wanted)``
            may add options for them, such as a model that it does without otherwise.

    Raises:
        ConfigurationError: the name or an option is unknown, the entry point can't be imported, the
            options are refused, or what comes out is no detector.
    """
    options = dict(options or {})
    entry = available().get(name)
    if entry is None:
        raise ConfigurationError(f"unknown detector {name!r}{nearest(name, available())}")
    try:
        target = entry.load()
    except LlmGuardError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the detector {name!r} of {_origin(entry)} can't be imported from {entry.value!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    adapt = getattr(target, "for_categories", None)
    if adapt is not None and wanted:
        options = dict(adapt(options, wanted))
    made: Detector = _make(name, entry, target, options)
    validate(made)
    if made.name != name:
        raise ConfigurationError(
            f"the entry point {name!r} of {_origin(entry)} gives a detector called {made.name!r}; "
            "the names must be equal"
        )
    return made


def takes(name: str, option: str) -> bool:
    """Whether the detector of this name has an option; False for a name or an entry point that is none."""
    entry = available().get(name)
    try:
        target = entry.load() if entry else None
        return callable(target) and option in inspect.signature(target).parameters
    except Exception:  # noqa: BLE001 - `load` says what is wrong with it
        return False


def validate(detector: Any) -> None:
    """Whether an object has all that a detector needs.

    Raises:
        ConfigurationError: it has not; says what is missing or of the wrong type.
    """
    who = f"{type(detector).__module__}.{type(detector).__qualname__}"
    if isinstance(detector, type):
        raise ConfigurationError(
            f"{detector.__qualname__} is a class: make an object of it, as in {detector.__name__}()"
        )
    for part in _PARTS:
        if not hasattr(detector, part):
            raise ConfigurationError(f"{who} is no detector: it has no {part!r}")
    check_name(detector.name)
    if isinstance(detector.categories, frozenset):
        check_categories(detector.categories)
    else:
        kind = type(detector.categories).__name__
        raise ConfigurationError(f"{who} is no detector: categories must be a frozenset, not {kind}")
    if not isinstance(detector.version, str) or not detector.version:
        raise ConfigurationError(f"{who} is no detector: version must be a non-empty string")
    if detector.scope not in frozenset(Scope):
        raise ConfigurationError(f"{who} is no detector: scope must be one of {', '.join(Scope)}")
    if not isinstance(detector.inline, bool):
        raise ConfigurationError(f"{who} is no detector: inline must be True or False")
    if not callable(detector.detect) or inspect.iscoroutinefunction(detector.detect):
        raise ConfigurationError(f"{who} is no detector: detect must be a plain method, not async")


def _make(name: str, entry: EntryPoint, target: Any, options: dict[str, object]) -> Any:
    if not isinstance(target, type) and isinstance(target, Detector):
        if options:
            raise ConfigurationError(
                f"the detector {name!r} takes no options, but was given {', '.join(sorted(options))}"
            )
        return target
    if not callable(target):
        raise ConfigurationError(
            f"the detector {name!r} of {_origin(entry)}: {entry.value!r} is neither a detector nor makes one"
        )
    _check_options(name, target, options)
    try:
        return target(**options)
    except LlmGuardError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the detector {name!r} can't be made with the options {sorted(options)}: {type(error).__name__}: {error}"
        ) from error


def _check_options(name: str, target: Any, options: Mapping[str, object]) -> None:
    by_name = {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    parameters = inspect.signature(target).parameters.values()
    known = {one.name: one for one in parameters if one.kind in by_name}
    if all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters):
        for option in options:
            if option not in known:
                hint = nearest(option, known) or "; it takes none"
                raise ConfigurationError(f"the detector {name!r} has no option {option!r}{hint}")
    for option, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and option not in options:
            raise ConfigurationError(f"the detector {name!r} needs the option {option!r}")


def _origin(entry: EntryPoint) -> str:
    distribution = entry.dist
    return f"{distribution.name} {distribution.version}" if distribution else "an unknown distribution"
