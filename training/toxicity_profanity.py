"""Which texts hold coarse swear words: the finer label ``obscene``, meant kindly or not."""

from __future__ import annotations

import re

_ENGLISH = r"""
    \w*f[u*@]+c?k\w* | f\*+\w* | wtf | stfu | motherf\w* | \w*sh[i*1!]+t(?:s|ty|ter|e|head|show|ting)?
    | bull?shit | b[i!1*]tch\w* | cunt\w* | d[i1]ck(?:s|head\w*)? | cock(?:s|sucker\w*)? | pr[i1]cks? | wank\w* | twats?
    | ass(?:es|hole\w*|wipe\w*)? | (?:dumb|jack|bad|lazy|smart|fat|big|punk|lard|ugly|sorry)-?ass(?:es)? | a\$\$
    | arse(?:s|d|hole\w*)? | bollocks | piss\w* | p1ss | crap(?:py|s)? | bastards? | slut\w* | wh[o0]r[e3]\w* | tits?
    | bugger\w* | turds? | sod\s+off | goddamn\w*
"""
_OTHERS = r"""
    merde | putain | connard\w* | encul\w* | mierda | joder | put[ao]s? | cabr[oó]n\w* | coño | merda | caralho | porra
    | foda\w* | stronz\w* | cazzo | vaffanculo | schei(?:ß|ss)\w* | arschl\w* | fick(?:en|t|er)? | kut | klootzak\w*
    | kurw\w* | chuj\w* | gówn\w* | siktir\w* | amk | бля\w* | сук[аи] | хуй\w* | говн\w*
"""
_COARSE = re.compile(rf"\b(?:{_ENGLISH} | {_OTHERS})(?!\w)", re.IGNORECASE | re.VERBOSE)


def profane(text: str) -> bool:
    """Whether a coarse swear word stands in the text, in plain or starred spelling."""
    return _COARSE.search(text) is not None
