"""Whether a sentence claims anything: a refusal, a greeting or an offer of help has nothing for documents to support.

Such a sentence is known by all of its words. One more, or a number, and it may say something: then it is judged.
"""

from __future__ import annotations

import re
from functools import cache

from llmguard.detectors.grounding_words import lexicon, phrases, words
from llmguard.detectors.refusal import refuses

_LONGEST = 200
"""Code points from which on a sentence is taken to claim something."""
_WORDS = 12
"""Words of a refusal in a language whose words are not known."""
_STRAIGHT = str.maketrans("’‘", "''")


def claims(sentence: str) -> bool:
    """Whether a sentence says anything that documents could support or not.

    Args:
        sentence: any text; time is linear in it up to 200 code points, and constant beyond.
    """
    if len(sentence) > _LONGEST or any(map(str.isdigit, sentence)):
        return True
    low = sentence.lower().translate(_STRAIGHT)
    found = words(low)
    if _courtesy().fullmatch(" ".join([word.low for word in found])):
        return False
    language = refuses(sentence)
    if not language:
        return True
    if language != "en":
        return len(found) > _WORDS
    known = lexicon().function | lexicon().negation | lexicon().refusal
    return not all([word.low in known or word.low.partition("'")[0] in known for word in found])


@cache
def _courtesy() -> re.Pattern[str]:
    return re.compile("|".join([f"(?:{pattern})" for pattern in phrases()]))
