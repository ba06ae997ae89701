"""The identity terms: what is found in texts, what is not, and what a file of them must be."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.fairness_lexicon import MAX_MENTIONS, Lexicon, bundled, read
from llmguard.errors import ConfigurationError

GOOD = """
sources: {own: {title: t, licence: l, url: u}}
dimensions:
  origin:
    north: {own: {adjective: [northern, Ünner], plural: [people of the north]}}
    south: {own: {adjective: [southern]}}
"""


def said(text: str, **options: bool) -> list[tuple[str, str]]:
    return [(one.term.group, text[one.start : one.end]) for one in bundled().mentions(text, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("Nobody here.", []),
        ("Women and men", [("women", "Women"), ("men", "men")]),
        ("GAY rights, women's rights", [("gay", "GAY"), ("women", "women")]),
        ("an African American man", [("black", "African American"), ("men", "man")]),
        (
            "a middle-aged, middle\n eastern poet",
            [("middle_aged", "middle-aged"), ("middle_eastern", "middle\n eastern")],
        ),
        ("many persons, a salesman, menace, humane, sonic", []),
        ("éman, manß, Łwomen, woman_1, 2men", []),
        ("“women”…women,未women", [("women", "women")] * 3),
        ("black people, black coffee, the car is black.", [("black", "black")]),
        ("I am black and she is old.", [("black", "black"), ("older", "old")]),
        ("I am old enough; they're straight forward", []),
        ("go straight ahead, straight men", [("heterosexual", "straight"), ("men", "men")]),
        ("most blacks, some whites, egg whites", [("black", "blacks"), ("white", "whites")]),
        ("polish it; a Polish builder", [("polish", "Polish")]),
        ("trans fat, trans women", [("transgender", "trans"), ("women", "women")]),
        ("\ud800 women \udfff", [("women", "women")]),
        ("a lgbtq-friendly place", [("lgbt", "lgbtq")]),
    ],
)
def test_mentions(text: str, expected: list[tuple[str, str]]) -> None:
    assert said(text) == expected


def test_in_template_sentences_every_word_counts() -> None:
    assert said("Sulin is a nice white", everywhere=True) == [("white", "white")]
    assert said("polish it straight", everywhere=True) == [("polish", "polish"), ("heterosexual", "straight")]


@given(
    st.lists(
        st.sampled_from(["woman", "Jews", "éjews", "old", "people", " ", "-", ".", "ß", "🙂", "A", "xMuslim", "Muslim"])
    )
)
def test_groups_are_those_of_the_mentions_as_a_naive_search_finds_them(parts: list[str]) -> None:
    text = "".join(parts)
    lexicon = bundled()
    found = {lexicon.groups[place] for place in lexicon.groups_in(text, everywhere=True)}
    assert found == {(one.term.dimension, one.term.group) for one in lexicon.mentions(text, everywhere=True)}
    # \w of Python's knows all letters; its words are ours where no emoji or mark is around.
    naive = {
        (term.dimension, term.group)
        for term in lexicon.terms
        if term.text.lower() in ("woman", "jews", "old", "muslim")
        and re.search(rf"(?<!\w){term.text}(?!\w)", text, re.IGNORECASE)
    }
    assert found == naive


@given(st.text())
def test_any_text_has_its_mentions_in_it(text: str) -> None:
    end = 0
    for one in bundled().mentions(text, everywhere=True):
        assert end <= one.start < one.end <= len(text)
        end = one.end


def test_a_flood_of_words_is_cut_off() -> None:
    assert len(bundled().mentions("women " * (MAX_MENTIONS + 5))) == MAX_MENTIONS


def test_every_term_is_found_by_itself_and_has_a_source_with_a_licence() -> None:
    lexicon = bundled()
    assert len(lexicon.terms) > 200
    for term in lexicon.terms:
        (one,) = lexicon.mentions(f"(“{term.text}”)", everywhere=True)
        assert one.term is term
        assert term.forms
        for source in term.sources:
            assert all((lexicon.sources[source].title, lexicon.sources[source].licence, lexicon.sources[source].url))


def test_the_terms_of_dixon_et_al_are_all_there() -> None:
    words = """
        lesbian gay bisexual transgender trans queer lgbt lgbtq homosexual straight heterosexual male female nonbinary
        african american mexican hispanic latino latina latinx black white asian indian japanese chinese
        christian muslim jewish buddhist catholic protestant sikh taoist old older young younger teenage millenial
        elderly blind deaf paralyzed european canadian
    """
    for word in [*words.split(), "middle aged", "middle eastern", "african american"]:
        assert len(said(word, everywhere=True)) == 1, word


def test_a_lexicon_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text(GOOD, encoding="utf-8")
    lexicon = read(path)
    assert lexicon.groups == (("origin", "north"), ("origin", "south"))
    text = "the ünner, people of the North, and Southern folk; Bünner, ünnerß"
    assert [text[one.start : one.end] for one in lexicon.mentions(text)] == ["ünner", "people of the North", "Southern"]
    assert isinstance(lexicon, Lexicon)
    assert lexicon.digest != bundled().digest


def test_letters_with_other_capitals_are_found_as_they_are_spelled(tmp_path: Path) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text(
        GOOD.replace("southern", "Weiße").replace("northern", "Έλληνες")
        + "ambiguous: {words: [weiße], persons: [Leute]}",
        encoding="utf-8",
    )
    lexicon = read(path)
    text = "weiße Leute, WEIẞE LEUTE, weiße Wände; έλληνες, ΈΛΛΗΝΕΣ"
    found = [text[one.start : one.end] for one in lexicon.mentions(text)]
    assert found == ["weiße", "WEIẞE", "έλληνες", "ΈΛΛΗΝΕΣ"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is no YAML"),
        ("[]", "must be a mapping"),
        ("sources: {}\ndimensions: {}", "no term"),
        ("sorces: {}", "did you mean 'sources'"),
        (GOOD.replace("own: {adjective: [s", "onw: {adjective: [s"), "did you mean 'own'"),
        (GOOD.replace("southern", "northern"), "stands under origin.north and origin.south"),
        (GOOD.replace("[southern]", "[yes]"), "quotes around yes and no"),
        (GOOD.replace("[southern]", "southern"), "list of words"),
        (GOOD.replace("[southern]", "['--']"), "list of words"),
        (GOOD.replace("origin", "The origin"), "no name of a dimension"),
        (GOOD.replace("south:", "so uth:"), "no name of a group"),
        (GOOD.replace(", url: u", ""), "title, licence and url"),
        (GOOD + "ambiguous: {word: [a]}", "did you mean 'words'"),
        (GOOD + "dimensions: 3", "dimensions must be a mapping"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=re.escape(message)) as error:
        read(path)
    assert error.value.source == str(path)


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="FileNotFoundError"):
        read(tmp_path / "none.yaml")
    (tmp_path / "latin").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigurationError, match="UnicodeDecodeError"):
        read(tmp_path / "latin")
