import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers_made import byte_level, sentencepiece, wordpiece

from llmguard.errors import InferenceError, ModelLoadError
from llmguard.inference import encoding, tokenizer
from llmguard.inference.card import TokenizerCard
from llmguard.inference.tokenizer import Tokenizer
from llmguard.inference.windows import Tokens, Window

MAKERS = [wordpiece, byte_level, sentencepiece]
CLS, SEP = 2, 3


def card(max_tokens: int = 16, overlap: int = 4, *, case_types: bool = False, pad_id: int = 0) -> TokenizerCard:
    return TokenizerCard(max_tokens=max_tokens, overlap=overlap, case_types=case_types, pad_id=pad_id)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {make.__name__: make(folder / f"{make.__name__}.json") for make in MAKERS}


@pytest.fixture(scope="module")
def small(files: dict[str, Path]) -> Tokenizer:
    return Tokenizer(files["wordpiece"], card(case_types=True))


@pytest.fixture(scope="module")
def wide(files: dict[str, Path]) -> Tokenizer:
    return Tokenizer(files["wordpiece"], card(512, 32))


def plain(path: Path, text: str) -> list[int]:
    library = Library.from_file(str(path))
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = True
    return library.encode(text, add_special_tokens=False).ids


def same(left: list[list[Window]], right: list[list[Window]]) -> bool:
    rows = [
        [[(w.start, w.end, w.ids.tolist(), w.type_ids.tolist(), w.offsets.tolist()) for w in own] for own in side]
        for side in (left, right)
    ]
    return rows[0] == rows[1]


def pieces(window: Window, text: str) -> list[str]:
    return [text[start:end] for start, end in window.offsets.tolist() if start >= 0]


def test_a_short_text_is_one_window(small: Tokenizer) -> None:
    text = "The quick Fox, JOHN!"
    (window,) = small.windows([text])[0]
    assert (window.start, window.end) == (0, len(text))
    assert (window.ids[0], window.ids[-1]) == (CLS, SEP)
    assert pieces(window, text) == ["The", "quick", "Fox", ",", "JOHN", "!"]
    assert window.type_ids.tolist() == [0, 2, 0, 2, 0, 4, 0, 0]
    assert window.offsets[0].tolist() == window.offsets[-1].tolist() == [-1, -1]
    assert {array.dtype for array in (window.ids, window.type_ids, window.offsets)} == {np.dtype(np.int32)}


def test_a_long_text_loses_nothing_to_the_files_own_truncation(small: Tokenizer) -> None:
    words = "the quick brown fox over a lazy dog of john " * 8
    windows = small.windows([words])[0]
    assert len(windows) > 5
    assert all(len(window.ids) <= 16 for window in windows)
    assert all(words[window.start - 1 : window.start].strip() == "" for window in windows)
    assert {piece for window in windows for piece in pieces(window, words)} == set(words.split())


@pytest.mark.parametrize("text", ["", " ", "\n\t \u00a0\u3000"])
def test_a_blank_text_has_no_windows(small: Tokenizer, text: str) -> None:
    assert small.windows([text, "a"])[0] == []
    assert small.pairs(["a", "a"], [text, "a"])[0] == []


def test_no_texts_have_no_windows(small: Tokenizer) -> None:
    assert small.windows([]) == small.pairs([], []) == []


def test_a_text_of_unseen_characters_is_still_a_window(small: Tokenizer) -> None:
    (window,) = small.windows(["\x00\u200b\x07"])[0]
    assert (window.start, window.end, window.ids.tolist()) == (0, 3, [CLS, SEP])


texts = st.text(
    st.sampled_from("ab cthe  foxé\u0301e\u0301世界ß한😀👩\u200d👧ﬁİ.,\n\x00\u200b\ud83d" + "q"), max_size=120
)


@pytest.mark.parametrize("kind", [make.__name__ for make in MAKERS])
@given(text=texts)
@settings(max_examples=150)
def test_every_printed_character_is_covered(files: dict[str, Path], kind: str, text: str) -> None:
    tokenizer = Tokenizer(files[kind], card(12, 3, case_types=True, pad_id=1))
    windows = tokenizer.windows([text])[0]
    covered = {at for window in windows for at in range(window.start, window.end)}
    assert covered >= {at for at, letter in enumerate(text) if not letter.isspace()}
    assert covered <= set(range(len(text)))
    for window in windows:
        assert len(window.ids) <= 12
        assert window.ids.max() < tokenizer.size
        placed = [(start, end) for start, end in window.offsets.tolist() if start >= 0]
        assert all(window.start <= start <= end <= window.end for start, end in placed)


@pytest.mark.parametrize("kind", [make.__name__ for make in MAKERS])
@given(text=texts.filter(lambda text: "\ud83d" not in text))
@settings(max_examples=100)
def test_one_window_holds_the_librarys_own_tokens(files: dict[str, Path], kind: str, text: str) -> None:
    tokenizer = Tokenizer(files[kind], card(2048, 0, pad_id=1))
    for window in tokenizer.windows([text])[0]:
        assert window.ids[1:-1].tolist() == plain(files[kind], text)


@given(st.lists(texts, max_size=6))
def test_windows_do_not_depend_on_neighbours(small: Tokenizer, many: list[str]) -> None:
    assert same(small.windows(many), [small.windows([text])[0] for text in many])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 😀 fox", ["a", "😀", "fox"]),
        ("👩\u200d👩\u200d👧 a", ["👩\u200d👩\u200d👧", "a"]),
        ("世界 a", ["世", "界", "a"]),
        ("cafe\u0301 a", ["c", "a", "f", "e", "a"]),
        ("한 a", ["한", "한", "한", "a"]),
        ("\x00fox", ["fox"]),
        ("𝟜 fox", ["𝟜", "fox"]),
    ],
)
def test_offsets_are_code_points_of_the_original(small: Tokenizer, text: str, expected: list[str]) -> None:
    (window,) = small.windows([text])[0]
    assert pieces(window, text) == expected


def test_a_lone_surrogate_is_an_unknown_character(small: Tokenizer) -> None:
    text = "fox \ud83d dog"
    (window,) = small.windows([text])[0]
    assert pieces(window, text) == ["fox", "dog"]
    assert (window.start, window.end) == (0, 9)


def test_a_text_cannot_write_special_tokens(small: Tokenizer) -> None:
    (window,) = small.windows(["[CLS] a [SEP]"])[0]
    assert window.ids[1:-1].tolist().count(SEP) == 0
    assert window.ids[1:-1].tolist().count(CLS) == 0


@pytest.mark.parametrize("length", [101, 150, 1000])
def test_a_word_too_long_for_the_model_is_read_in_pieces(wide: Tokenizer, length: int) -> None:
    text = f"the {'fox' * length} dog"
    ids = [token for window in wide.windows([text])[0] for token in window.ids.tolist()]
    assert 1 not in ids
    spans = [span for window in wide.windows([text])[0] for span in window.offsets.tolist() if span[0] >= 0]
    read = {at for start, end in spans for at in range(start, end)}
    assert read == {at for at, letter in enumerate(text) if letter != " "}


def test_a_word_that_the_model_takes_is_left_to_it(wide: Tokenizer) -> None:
    (window,) = wide.windows(["the " + "q😀" * 50])[0]
    assert window.ids.tolist()[2:] == [1, SEP]


@pytest.mark.parametrize("kind", [make.__name__ for make in MAKERS])
def test_chunks_make_no_difference(files: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "the quick  brown fox,\n\njumps over John's \t lazy café dog\r\n 世界 " * 40
    tokenizer = Tokenizer(files[kind], card(case_types=True, pad_id=1))
    whole = tokenizer.windows([text, "a fox"])
    monkeypatch.setattr(encoding, "CHUNK", 64)
    monkeypatch.setattr(encoding, "_TOGETHER", 256)
    assert same(tokenizer.windows([text, "a fox"]), whole)


@given(st.text(st.sampled_from("ab \n\u0301\u200d😀"), max_size=200))
def test_chunks_are_the_text(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "CHUNK", 40)
        found = list(encoding.chunks(text))
    assert "".join(chunk for _, chunk in found) == text
    assert all(0 < len(chunk) <= 40 for _, chunk in found) or not text
    assert all(text.startswith(chunk, start) for start, chunk in found)


def test_threads_of_the_library_make_no_difference(small: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    many = ["the quick brown fox " * 20] * 10
    alone = small.windows(many)
    monkeypatch.setattr(encoding, "_PARALLEL", 1)
    assert same(small.windows(many), alone)


def test_a_pair_holds_the_context_and_then_the_text(small: Tokenizer) -> None:
    text = "John jumps"
    (window,) = small.pairs(["the fox"], [text])[0]
    assert window.ids[[0, 3, -1]].tolist() == [CLS, SEP, SEP]
    assert pieces(window, text) == ["John", "jump", "s"]
    assert window.type_ids.tolist() == [0, 0, 0, 0, 3, 1, 1, 1]
    assert (window.start, window.end) == (0, len(text))


def test_a_long_context_is_cut_beside_the_whole_text(small: Tokenizer) -> None:
    text = "john jumps"
    windows = small.pairs(["the quick brown fox over a lazy dog " * 4], [text])[0]
    assert len(windows) > 3
    assert all(pieces(window, text) == ["john", "jump", "s"] for window in windows)
    assert all(len(window.ids) <= 16 for window in windows)


def test_a_long_text_and_a_long_context_meet_in_all_their_parts(small: Tokenizer) -> None:
    context, text = "the fox of a dog " * 6, "john smith over the lazy fox " * 5
    windows = small.pairs([context], [text])[0]
    parts = {(window.start, window.end) for window in windows}
    assert {at for start, end in parts for at in range(start, end)} == set(range(len(text)))
    assert len(windows) % len(parts) == 0
    assert len(windows) > len(parts) > 1


def test_an_empty_context_is_an_empty_segment(small: Tokenizer) -> None:
    (window,) = small.pairs([""], ["fox"])[0]
    assert window.ids.tolist()[:2] == [CLS, SEP]
    assert len(window.ids) == 4


@given(context=texts, text=texts)
@settings(max_examples=100)
def test_pairs_cover_the_text(files: dict[str, Path], context: str, text: str) -> None:
    tokenizer = Tokenizer(files["byte_level"], card(14, 3, pad_id=1))
    windows = tokenizer.pairs([context], [text])[0]
    covered = {at for window in windows for at in range(window.start, window.end)}
    assert covered >= {at for at, letter in enumerate(text) if not letter.isspace()}
    assert all(len(window.ids) <= 14 for window in windows)


def test_texts_and_contexts_must_pair(small: Tokenizer) -> None:
    with pytest.raises(ValueError, match="1 contexts and 2 texts"):
        small.pairs(["a"], ["a", "b"])


def test_two_huge_texts_are_refused_with_a_reason(small: Tokenizer) -> None:
    with pytest.raises(InferenceError, match="more than 16384 windows") as caught:
        small.pairs(["a fox " * 3000], ["a dog " * 3000])
    assert "fox" not in str(caught.value)


def test_many_texts_beside_a_long_context_are_refused_before_a_window_is_made(
    small: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(tokenizer, "_framed", lambda *parts: made.append(parts))
    with pytest.raises(InferenceError, match="500 texts of 3500 characters, beside contexts of up to 6000, make more"):
        small.pairs(["a fox " * 1000] * 500, [f"dog {number}" for number in range(100, 600)])
    assert made == []


@given(
    st.lists(texts, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), texts | st.sampled_from(["a fox", "the quick brown fox " * 4])), max_size=6),
)
@settings(max_examples=60)
def test_a_pair_is_the_same_in_any_company(small: Tokenizer, contexts: list[str], pairs: list[tuple[int, str]]) -> None:
    left = [contexts[place % len(contexts)] for place, _ in pairs]
    right = [text for _, text in pairs]
    alone = [small.pairs([context], [text])[0] for context, text in zip(left, right, strict=True)]
    assert same(small.pairs(left, right), alone)


def test_a_context_is_read_once_for_all_texts_beside_it(small: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    tokens = encoding.Encoder.tokens

    def counted(self: encoding.Encoder, texts: Sequence[str], fits: int) -> list[Tokens]:
        read.extend(texts)
        return tokens(self, texts, fits)

    monkeypatch.setattr(encoding.Encoder, "tokens", counted)
    found = small.pairs(["the fox", "the dog"] * 20, [f"john {number % 4}" for number in range(40)])
    assert len(found) == 40
    assert sorted(read) == ["john 0", "john 1", "john 2", "john 3", "the dog", "the fox"]


def test_a_long_text_without_a_space_is_covered(wide: Tokenizer) -> None:
    for letter in ("a", "世", "😀", "-"):
        text = letter * 100_000
        windows = wide.windows([text])[0]
        assert windows[0].start == 0
        assert windows[-1].end == len(text)
        assert all(left.end >= right.start for left, right in itertools.pairwise(windows))


def test_threads_share_a_tokenizer(small: Tokenizer) -> None:
    many = [f"the fox {number} jumps over john " * 5 for number in range(8)]
    expected = [small.windows([text]) for text in many]
    wrong: list[int] = []

    def work(number: int) -> None:
        found = [small.windows([many[number]]) for _ in range(30)]
        wrong.extend(number for windows in found if not same(windows, expected[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def spoilt(path: Path, change: Callable[[dict[str, object]], object]) -> Path:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    other = path.with_name("spoilt.json")
    other.write_text(json.dumps(data), encoding="utf-8")
    return other


def test_files_that_do_not_fit_are_refused_by_name(files: dict[str, Path], tmp_path: Path) -> None:
    good = files["wordpiece"]
    with pytest.raises(ModelLoadError, match=r"missing\.json.*can't be read"):
        Tokenizer(tmp_path / "missing.json", card())
    cases: list[tuple[bytes, str]] = [(b"", "no tokenizer"), (b"{}", "no tokenizer"), (b"\xff\x00", "no tokenizer")]
    cases.append((good.read_bytes()[: good.stat().st_size // 2], "no tokenizer"))
    for data, message in cases:
        (tmp_path / "tokenizer.json").write_bytes(data)
        with pytest.raises(ModelLoadError, match=rf"tokenizer\.json.*{message}"):
            Tokenizer(tmp_path / "tokenizer.json", card())
    with pytest.raises(ModelLoadError, match="padding token 9999"):
        Tokenizer(good, card(pad_id=9999))
    with pytest.raises(ModelLoadError, match="no special token"):
        Tokenizer(wordpiece(tmp_path / "bare.json", specials=False), card())
    with pytest.raises(ModelLoadError):
        Tokenizer(spoilt(good, lambda data: data.update(model={"type": "WordPiece", "vocab": {}})), card())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
@pytest.mark.parametrize("configured", ["true", None])
def test_a_forked_child_encodes_without_the_parents_threads(files: dict[str, Path], configured: str | None) -> None:
    program = f"""
import os
from pathlib import Path
from llmguard.inference.card import TokenizerCard
from llmguard.inference.tokenizer import Tokenizer
tokenizer = Tokenizer(Path({str(files["wordpiece"])!r}), TokenizerCard(max_tokens=16, overlap=4, pad_id=0))
texts = ["the quick brown fox " * 500] * 8
count = len(tokenizer.windows(texts)[7])
pid = os.fork()
if pid == 0:
    os._exit(0 if len(tokenizer.windows(texts)[7]) == count else 1)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
"""
    variables = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    if configured:
        variables["TOKENIZERS_PARALLELISM"] = configured
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=variables,
    )
    assert done.stdout == "0\n"
