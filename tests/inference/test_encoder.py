import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from directories import digest, directory
from hypothesis import given, settings
from hypothesis import strategies as st
from mini import PLAIN, SAYS, graph, mini, words

from llmguard import limits
from llmguard.errors import DeadlineError, InferenceError, ModelLoadError
from llmguard.inference import encoder as encoder_module
from llmguard.inference import memo
from llmguard.inference.encoder import Encoder, shared
from llmguard.inference.session import open_session
from llmguard.inference.store import open_model


class Counted:
    """A session that counts its runs, and can be made to wait or to lie."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.lie = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run(self, feeds: Any) -> Any:
        self.sizes.append(len(feeds["input_ids"]))
        self.began.set()
        assert self.gate.wait(30)
        out = self._inner.run(feeds)
        if self.lie == "nan":
            out = {**out, "toxicity": out["toxicity"] * np.nan}
        if self.lie == "shape":
            out = {**out, "toxicity": out["toxicity"][:, :2]}
        return out


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini(tmp_path_factory.mktemp("models") / "mini")


@pytest.fixture
def encoder(model: Path) -> Iterator[Encoder]:
    opened = open_model(str(model))
    made = Encoder(opened, Counted(open_session(opened.graphs, device="cpu")))
    made.session.sizes.clear()  # type: ignore[attr-defined]
    yield made
    made.close()


def runs(encoder: Encoder) -> list[int]:
    return encoder.session.sizes  # type: ignore[attr-defined,no-any-return]


def test_every_head_answers_for_every_window(encoder: Encoder) -> None:
    (found,) = encoder.encode(["you idiot"])
    assert [(window.start, window.end) for window in found.windows] == [(0, 9)]
    (row,) = found.rows
    assert row["toxicity"].shape == (6,)
    assert row["toxicity"][0] > 0.99 > 0.01 > row["toxicity"][2]
    assert row["entities"].shape == (4, 9)
    assert np.allclose(row["entities"].sum(axis=1), 1)
    assert np.allclose(found.stacked("harmful"), row["harmful"][None])


def test_the_same_texts_cost_one_pass_for_all_who_ask(encoder: Encoder) -> None:
    texts = ["you idiot", "a good day", "you idiot"]
    first = encoder.encode(texts)
    assert runs(encoder) == [2]
    assert encoder.encode(texts) == first
    assert encoder.encode(texts[:1])[0] is first[0]
    assert runs(encoder) == [2]
    encoder.forget()
    encoder.encode(texts)
    assert runs(encoder) == [2, 2]


def test_callers_at_the_same_time_share_a_pass(encoder: Encoder) -> None:
    session: Any = encoder.session
    session.gate.clear()
    session.began.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(encoder.encode, ["a good day", "you idiot"]) for _ in range(8)]
        assert session.began.wait(30)
        session.gate.set()
        answers = [one.result(30) for one in asked]
    assert runs(encoder) == [2]
    assert all(answer == answers[0] for answer in answers)


def test_a_long_text_is_read_in_windows_and_all_of_it(encoder: Encoder) -> None:
    text = "a good day " * 100 + "you idiot"
    (found,) = encoder.encode([text])
    assert len(found.windows) > 5
    assert found.windows[-1].end == len(text)
    toxic = found.stacked("toxicity")[:, 0]
    assert toxic[-1] > 0.99 > 0.01 > toxic[:-2].max()


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from([*PLAIN, *SAYS, "é", "🙂", "\u200b"]), max_size=60).map(" ".join), max_size=5))
def test_a_text_is_judged_alike_in_any_company(model: Path, texts: list[str]) -> None:
    encoder = shared(str(model), device="cpu")
    encoder.forget()
    together = encoder.encode(texts)
    for text, found in zip(texts, together, strict=True):
        encoder.forget()
        (alone,) = encoder.encode([text])
        assert len(alone.rows) == len(found.rows)
        for one, other in zip(alone.rows, found.rows, strict=True):
            assert all(np.allclose(one[head], other[head], atol=1e-6) for head in one)


def test_an_empty_text_has_no_window(encoder: Encoder) -> None:
    assert [found.rows for found in encoder.encode(["", " \n"])] == [(), ()]
    assert runs(encoder) == []


def test_pairs_read_the_text_beside_its_context(encoder: Encoder) -> None:
    plain, moon = encoder.encode_pairs(["the moon rises", "the sun"], ["a good day", "the moon"])
    assert plain.rows[0]["grounding"][0] < 0.01
    assert moon.rows[0]["grounding"][0] > 0.99
    with pytest.raises(ValueError, match="don't pair"):
        encoder.encode_pairs(["a"], [])


def test_what_many_texts_stand_beside_is_read_and_hashed_once(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def counted(*parts: str) -> bytes:
        hashed.extend(parts)
        return memo.digest(*parts)

    monkeypatch.setattr(encoder_module, "digest", counted)
    found = encoder.encode_pairs(["the sun rises"] * 6, ["the moon", "the sun", "a good day"] * 2)
    assert hashed.count("the sun rises") == 1
    assert found[:3] == found[3:]
    assert runs(encoder) == [3]


@pytest.mark.parametrize(("lie", "says"), [("nan", "not finite"), ("shape", "6")])
def test_an_answer_that_is_none_is_an_error(encoder: Encoder, lie: str, says: str) -> None:
    encoder.session.lie = lie  # type: ignore[attr-defined]
    with pytest.raises(InferenceError, match=says):
        encoder.encode(["you idiot"])
    encoder.session.lie = ""  # type: ignore[attr-defined]
    assert len(encoder.encode(["you idiot"])[0].rows) == 1


def test_who_waits_for_another_waits_no_longer_than_its_own_deadline(encoder: Encoder) -> None:
    session: Any = encoder.session
    session.gate.clear()
    session.began.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(encoder.encode, ["a good day"])
        assert session.began.wait(30)
        token = limits.deadline.set(time.monotonic() + 0.01)
        try:
            with pytest.raises(DeadlineError):
                encoder.encode(["a good day"])
        finally:
            limits.deadline.reset(token)
            session.gate.set()
        assert len(slow.result(30)[0].rows) == 1


def test_one_model_is_loaded_once(model: Path) -> None:
    one = shared(str(model), device="cpu")
    assert shared(str(model), device="cpu") is one
    assert shared(str(model), device="cpu", threads=1) is not one


def test_a_graph_without_the_cards_output_does_not_load(tmp_path: Path) -> None:
    head = {"name": "x", "output": "other", "kind": "labels", "labels": ["a", "b"], "activation": "sigmoid"}
    opened = open_model(str(directory(tmp_path / "m", heads=[head])))
    with pytest.raises(ModelLoadError, match="no output 'other'"):
        Encoder(opened, open_session(opened.graphs, device="cpu"))


def test_a_card_with_other_labels_than_the_graph_does_not_load(tmp_path: Path) -> None:
    head = {"name": "x", "output": "logits", "kind": "labels", "labels": ["a", "b", "c"], "activation": "sigmoid"}
    opened = open_model(str(directory(tmp_path / "m", heads=[head])))
    with pytest.raises(ModelLoadError, match="don't fit together"):
        Encoder(opened, open_session(opened.graphs, device="cpu"))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_tokenizer_with_more_tokens_than_the_graph_knows_does_not_load(tmp_path: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    made = mini(tmp_path / "m")
    graph(made / "model.onnx", words()[:-40])
    card = yaml.safe_load((made / "card.yaml").read_text())
    card["files"]["model.onnx"] = digest(made / "model.onnx")
    (made / "card.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(ModelLoadError, match="don't fit together"):
        shared(str(made), device="cpu", runtime=runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_callers_arithmetic_is_left_as_it_was(model: Path, runtime: str) -> None:
    # A runtime that has the processor take the smallest numbers for zero does so for the whole thread.
    pytest.importorskip(runtime)
    shared(str(model), device="cpu", runtime=runtime, threads=1).encode(["a good day"])
    assert float(np.float64(5e-324) * np.float64(1.0)) == 5e-324
