"""Which regions could take digits as a valid phone number: a fast filter that never rules out one that would.

Built from the metadata that ``phonenumbers`` itself validates with: the patterns of every type of number, behind
what ``phonenumbers.parse`` may take off the front. A region whose metadata rewrites digits, or has a
pattern that RE2 does not accept, is never ruled out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

_TYPES = (
    "fixed_line",
    "mobile",
    "toll_free",
    "premium_rate",
    "shared_cost",
    "personal_number",
    "voip",
    "pager",
    "uan",
    "voicemail",
)
_PLAIN_TRANSFORM = re.compile(r"(?:\\\d)+\Z")
_FIRST_GROUP_ONLY = re.compile(r"\(?\\1\)?\Z")
_SHORT = 5
_HEAD = 3
_PREFIX_DIGITS = 7
_ANY_TWICE = f"(?:|[0-9]{{0,{_PREFIX_DIGITS}}})" * 2
_ANY = f"[0-9]{{0,{2 * _PREFIX_DIGITS}}}"
_PROGRAM_BYTES = 32 << 20


def _valid(metadata: Any) -> str:
    """An alternation of the patterns of all types of valid national numbers of one region."""
    kinds = [getattr(metadata, name) for name in _TYPES]
    patterns = dict.fromkeys(kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern)
    return "|".join(patterns)


def _national(parsing: Sequence[Any], valid: Sequence[Any]) -> tuple[str, str] | None:
    """A national prefix, or none, and a valid number, as two patterns.

    Args:
        parsing: metadata of the regions whose prefixes may be taken off.
        valid: metadata of the regions where the number may be valid.

    Returns:
        Patterns of digits; None when a region rewrites digits.
    """
    prefixes = [""]
    for metadata in parsing:
        transform = metadata.national_prefix_transform_rule
        if transform and not _PLAIN_TRANSFORM.match(transform):
            return None
        if "(" in (metadata.national_prefix_for_parsing or "").replace("(?:", ""):
            # The number is a group of the prefix's pattern: any few digits may stand before it.
            prefixes.append(f"[0-9]{{0,{_PREFIX_DIGITS}}}")
        elif metadata.national_prefix_for_parsing:
            prefixes.append(metadata.national_prefix_for_parsing)
    numbers = dict.fromkeys(filter(None, map(_valid, valid)))
    return f"(?:{'|'.join(dict.fromkeys(prefixes))})", f"(?:{'|'.join(numbers)})"


class _Bare:
    """Whether a region takes a number without its national prefix: it depends on how the number is written there.

    The rule is that of leniency VALID: the first format that fits a number says whether the prefix belongs to it.

    Args:
        parsing: metadata of the region, for its national prefix.
        main: metadata of the main region of its country code, for its formats.
    """

    __slots__ = ("_formats", "_prefix")

    def __init__(self, parsing: Any, main: Any) -> None:
        prefixes = [data.national_prefix_for_parsing for data in (parsing, main) if data.national_prefix_for_parsing]
        self._prefix = re.compile("|".join(prefixes)).match if prefixes else None
        self._formats = [
            (
                re.compile(form.leading_digits_pattern[-1]).match if form.leading_digits_pattern else None,
                re.compile(form.pattern).fullmatch,
                not form.national_prefix_formatting_rule
                or bool(form.national_prefix_optional_when_formatting)
                or _FIRST_GROUP_ONLY.match(form.national_prefix_formatting_rule) is not None,
            )
            for form in main.number_format
        ]

    def takes(self, number: str) -> bool:
        """Whether ``number`` may stand without a prefix."""
        if self._prefix and self._prefix(number):
            return True
        for leading, pattern, free in self._formats:
            if (leading is None or leading(number)) and pattern(number):
                return free
        return True


class RegionNumbers:
    """The filter for some regions.

    Args:
        regions: two-letter codes as ``phonenumbers`` has them.
        filtered: whether there is to be a filter at all; without, no region is ever ruled out.

    Attributes:
        lines: where in a text the lines of digits begin that one of the regions could take, in no order; None when a
            region is never ruled out.
    """

    def __init__(self, regions: Sequence[str], *, filtered: bool = True) -> None:
        import phonenumbers

        self.filtered = filtered
        self._codes: dict[int, re.Pattern[str] | None] = {}
        self._unfiltered: list[str] = []
        self._owners: list[tuple[str, _Bare | None]] = []
        patterns: list[str] = []
        for region in regions:
            metadata = phonenumbers.PhoneMetadata.metadata_for_region(region, None) if filtered else None
            forms = self._forms(metadata)
            if forms is None:
                self._unfiltered.append(region)
                continue
            fronted, number, bare = forms
            patterns += (fronted, number)
            self._owners += ((region, None), (region, bare))
        self._whole = self._set(patterns, anchored=True)
        self._inside = self._set(patterns, anchored=False)
        self.lines = None if self._unfiltered else self._lines(patterns)

    def _forms(self, metadata: Any) -> tuple[str, str, _Bare] | None:
        """Patterns of the numbers with something in front and of those without, and which of the latter count."""
        import re2

        if metadata is None:
            return None
        same_code = self._metadata(metadata.country_code)
        national = _national([metadata, same_code[0]], same_code)
        if national is None:
            return None
        prefix, number = national
        first = prefix.replace("(?:|", "(?:", 1)
        # After the country code of its own region a prefix, which may be nothing, comes off twice.
        fronted = f"{metadata.country_code}{prefix}{prefix}{number}"
        if first != "(?:)":
            fronted = f"{fronted}|{first}{number}"
        if metadata.international_prefix:
            fronted = f"(?:{metadata.international_prefix})[1-9][0-9]{{4,}}|{fronted}"
        try:
            re2.compile(fronted)
        except re2.error:
            return None
        return fronted, number, _Bare(metadata, same_code[0])

    @staticmethod
    def _metadata(code: int) -> list[Any]:
        """Metadata of the regions that share a country code, the main one first."""
        import phonenumbers

        regions = phonenumbers.region_codes_for_country_code(code)
        found = [phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, region) for region in regions]
        return [metadata for metadata in found if metadata is not None]

    @staticmethod
    def _set(patterns: Sequence[str], *, anchored: bool) -> Any:
        import re2

        options = re2.Options()
        options.never_capture = True
        options.log_errors = False
        made = re2.Set.FullMatchSet(options) if anchored else re2.Set.SearchSet(options)
        # The first pattern always matches: a scan that RE2 gave up on is told from one that found nothing.
        made.Add(r"(?s).*" if anchored else "")
        for pattern in patterns:
            made.Add(pattern)
        made.Compile()
        return made.Match

    @staticmethod
    def _lines(patterns: Sequence[str]) -> Callable[[bytes], list[int]]:
        import re2

        options = re2.Options()
        options.never_capture = True
        options.log_errors = False
        options.max_mem = _PROGRAM_BYTES
        # Together with patterns that begin with any digits, the others would need more states than there is room for.
        open_ones = [pattern.replace(_ANY_TWICE, _ANY) for pattern in patterns if _ANY_TWICE in pattern]
        others = [pattern for pattern in patterns if _ANY_TWICE not in pattern]
        lines = [f"(?m:^(?:{'|'.join(some)})$)".encode() for some in (open_ones, others) if some]
        finders = [re2.compile(line, options) for line in lines]
        return lambda text: [match.start() for finder in finders for match in finder.finditer(text)]

    def whole(self, digits: bytes) -> list[str]:
        """The regions that could take ``digits`` as one number."""
        found = self._whole(digits)
        if len(found) == 1:
            return self._unfiltered
        text = digits.decode()
        named = dict.fromkeys(self._unfiltered)
        for index in found or range(1, len(self._owners) + 1):
            if index:
                region, bare = self._owners[index - 1]
                if region not in named and (bare is None or bare.takes(text)):
                    named[region] = None
        return list(named)

    def inside(self, digits: bytes) -> list[str]:
        """The regions that could take some stretch of ``digits`` as a number."""
        found = self._inside(digits) or range(1, len(self._owners) + 1)
        return list(dict.fromkeys([*(self._owners[index - 1][0] for index in found if index), *self._unfiltered]))

    def international(self, digits: bytes) -> bool:
        """Whether ``digits`` after a plus sign could be a number of any country."""
        import phonenumbers

        text = digits.decode()
        for width in (1, 2, 3):
            code = int(text[:width] or "0")
            if text[0] != "0" and code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
                if code not in self._codes:
                    same_code = self._metadata(code)
                    national = _national(same_code[:1], same_code)
                    self._codes[code] = re.compile(national[0] + national[1]) if national else None
                pattern = self._codes[code]
                return pattern is None or pattern.fullmatch(text[width:]) is not None
        return False

    def short_heads(self) -> tuple[str, ...]:
        """The first three digits of all numbers of four or five digits that pass; "" if too many would."""
        if self._unfiltered:
            return ("",)
        heads = {
            head
            for head in (f"{number:0{_HEAD}d}" for number in range(10**_HEAD))
            if any(
                self.whole(f"{head}{tail:0{width}d}".encode())
                for width in (1, _SHORT - _HEAD)
                for tail in range(10**width)
            )
        }
        return tuple(sorted(heads))
