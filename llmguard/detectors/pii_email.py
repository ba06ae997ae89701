"""E-mail addresses: Presidio's recognizer without network, and what of its check RE2 can see."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

_HOST_ENDS = re.compile(r"[/?#:\\\[\]]")
_LABEL_ENDS = r"(?:\z|[^\w-]|-(?:\z|\W))"
_CHARS = r"!#$%&'*+\-/=?^_`{|}~"
_FIRST = rf"[{_CHARS}\w]"
_LOCAL = rf"[{_CHARS}\.\w]"
_DOMAIN = r"[@]\w+(?:-+\w+)*(?:\.\w+(?:-+\w+)*)+"
_PATTERN = rf"\b((({_FIRST})|({_FIRST}{_LOCAL}{{0,}}{_FIRST})){_DOMAIN})\b"


@functools.cache
def _extract() -> Any:
    import tldextract

    # tldextract by default downloads the list at first use and writes it to a cache directory.
    made = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())
    made.tlds  # noqa: B018 - reads the list now, not at the first address
    return made


@functools.cache
def offline_email() -> type[Any]:
    """Presidio's e-mail recognizer, on the copy of the public suffix list that tldextract brings along."""
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    extract = _extract()
    suffixes = frozenset(extract.tlds)
    under = {suffix.rpartition(".")[2] for suffix in suffixes if "." in suffix}
    # Every name below one of these is a domain: most addresses need no look at the list.
    flat = frozenset(suffix for suffix in suffixes if "." not in suffix and suffix.isascii() and suffix not in under)

    class OfflineEmailRecognizer(EmailRecognizer):
        """Validates the domain without network and without a cache on disk."""

        def validate_result(self, pattern_text: str) -> bool:
            """Whether the domain ends in a public suffix."""
            if pattern_text.isascii() and not _HOST_ENDS.search(pattern_text):
                name, _, top = pattern_text.rpartition("@")[2].rpartition(".")
                if name and name[-1] != "." and top.lower() in flat:
                    return True
            return bool(extract(pattern_text).fqdn)

    OfflineEmailRecognizer.__name__ = EmailRecognizer.__name__
    return OfflineEmailRecognizer


class Addresses:
    """The matches of Presidio's pattern of addresses in linear time: from each ``@`` outwards.

    The pattern itself is tried at each word, and reads up to the next ``@`` each time. But whether a domain follows an
    ``@`` does not depend on where the address begins, and the first place that it can begin at is the match's.

    Args:
        pattern: another than Presidio's runs as it stands.
        flags: what it is compiled with.
    """

    __slots__ = ("_before", "_domain", "_first", "_whole", "matches")

    def __init__(self, pattern: str, flags: int) -> None:
        import regex

        self._whole = regex.compile(pattern, flags)
        self._before = regex.compile(f"(?r){_LOCAL}*", flags)
        self._first = regex.compile(rf"\b{_FIRST}", flags)
        self._domain = regex.compile(_DOMAIN + r"\b", flags)
        self.matches = self._from_signs if pattern == _PATTERN else self._whole.finditer

    def _from_signs(self, text: str, start: int, end: int) -> Iterator[Any]:
        sign = text.find("@", start, end)
        while sign >= 0:
            known = start
            # No part of an address has a second sign: what stands before this one is not looked at again.
            start = sign + 1
            if self._domain.match(text, sign, end):
                local = self._before.match(text, known, sign)
                first = local and self._first.search(text, local.start(), sign)
                match = first and self._whole.match(text, first.start(), end)
                if match:
                    yield match
                    start = match.end()
            sign = text.find("@", start, end)


def ending(recognizer: Any) -> str:
    """What must stand in an address for a recognizer's check to pass, in RE2's syntax over proxies; else "".

    The check wants a public suffix. The last label of one stands at the end of the address, or, since
    tldextract takes what comes before a slash, a question mark or a hash for the host, before one of these.
    """
    if type(recognizer) is not offline_email():
        return ""
    labels = {suffix.rpartition(".")[2] for suffix in _extract().tlds}
    plain = "|".join(sorted(re.escape(label) for label in labels if label.isascii()))
    top = rf"\.(?i:{plain}|\w*_\w*)"  # any letter outside ASCII is an underscore in the proxy
    return rf"(?:@[\w.-]*{top}{_LABEL_ENDS}|{top}[/?#]\S*@)"
