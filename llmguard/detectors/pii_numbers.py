"""Which regions could take a string of digits as a valid phone number: a fast filter that never rules out one that would.

Built from the metadata that ``phonenumbers`` itself validates with: the patterns of every type of number, behind
what ``phonenumbers.parse`` may take off the front. A region whose metadata rewrites digits, or has a
pattern that RE2 does not accept, is never ruled out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
_SHORT = 5
_HEAD = 3
_PREFIX_DIGITS = 7


def _valid(metadata: Any) -> str:
    """An alternation of the patterns of all types of valid national numbers of one region."""
    kinds = [getattr(metadata, name) for name in _TYPES]
    patterns = dict.fromkeys(kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern)
    return "|".join(patterns)


def _national(parsing: Sequence[Any], valid: Sequence[Any]) -> str | None:
    """A national prefix and a valid number.

    Args:
        parsing: metadata of the regions whose prefixes may be taken off.
        valid: metadata of the regions where the number may be valid.

    Returns:
        A pattern of digits; None when a region rewrites digits.
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
    return f"(?:{'|'.join(dict.fromkeys(prefixes))})(?:{'|'.join(numbers)})"


class RegionNumbers:
    """The filter for some regions.

    Args:
        regions: two-letter codes as ``phonenumbers`` has them.
    """

    def __init__(self, regions: Sequence[str]) -> None:
        import phonenumbers

        self._codes: dict[int, re.Pattern[str] | None] = {}
        self._unfiltered: list[str] = []
        self._kept: list[str] = []
        patterns = []
        for region in regions:
            pattern = self._pattern(phonenumbers.PhoneMetadata.metadata_for_region(region, None))
            if pattern is None:
                self._unfiltered.append(region)
            else:
                self._kept.append(region)
                patterns.append(pattern)
        self._whole = self._set(patterns, anchored=True)
        self._inside = self._set(patterns, anchored=False)
        self._patterns = patterns

    def _pattern(self, metadata: Any) -> str | None:
        import re2

        if metadata is None:
            return None
        same_code = self._metadata(metadata.country_code)
        national = _national([metadata, same_code[0]], same_code)
        if national is None:
            return None
        digits = f"(?:{metadata.country_code})?{national}"
        if metadata.international_prefix:
            digits = f"(?:{metadata.international_prefix})[1-9][0-9]{{4,}}|{digits}"
        try:
            re2.compile(digits)
        except re2.error:
            return None
        return digits

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

    def _named(self, found: list[int]) -> list[str]:
        if not found:
            return [*self._kept, *self._unfiltered]
        return [*(self._kept[index - 1] for index in found if index), *self._unfiltered]

    def whole(self, digits: bytes) -> list[str]:
        """The regions that could take ``digits`` as one number."""
        return self._named(self._whole(digits))

    def inside(self, digits: bytes) -> list[str]:
        """The regions that could take some stretch of ``digits`` as a number."""
        return self._named(self._inside(digits))

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
                    self._codes[code] = re.compile(national) if national else None
                pattern = self._codes[code]
                return pattern is None or pattern.fullmatch(text[width:]) is not None
        return False

    def short_heads(self) -> tuple[str, ...]:
        """The first three digits of all numbers of four or five digits that pass; "" if too many would."""
        if self._unfiltered:
            return ("",)
        whole = self._whole
        heads = {
            head
            for head in (f"{number:0{_HEAD}d}" for number in range(10**_HEAD))
            if any(
                len(whole(f"{head}{tail:0{width}d}".encode())) > 1
                for width in (1, _SHORT - _HEAD)
                for tail in range(10**width)
            )
        }
        return tuple(sorted(heads))
