import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.labels import BIO, HEADS, LABELS, Example

missing = [name for name in ("torch", "transformers", "onnx") if importlib.util.find_spec(name) is None]
if missing and (os.environ.get("CI") != "true" or os.environ.get("LLMGUARD_TORCH") == "elsewhere"):
    pytest.skip(f"training needs {', '.join(missing)}", allow_module_level=True)

import torch  # noqa: E402 - only where it is installed

from llmguard.inference.card import Card  # noqa: E402
from training.batches import arrays  # noqa: E402
from training.emoji import widened  # noqa: E402
from training.encode import IGNORED, Encoder  # noqa: E402
from training.loss import entity_loss, label_loss, statement_logit, support_loss  # noqa: E402
from training.model import GuardMini, Outputs, widen  # noqa: E402
from training.predict import torch_run  # noqa: E402
from training.train import Settings, fit  # noqa: E402

TEXT = "[PAD] [UNK] [CLS] [SEP] you are a fool kind paris lives in ana grinning face fire the costs five six ##s"
WORDS = TEXT.split()


def vocabulary() -> dict[str, int]:
    """As many tokens as put [CLS] and [SEP] where the base has them."""
    known = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102}
    return known | {word: 103 + place for place, word in enumerate(WORDS[4:])} | {f"[u{n}]": n for n in range(1, 100)}


def small_tokenizer() -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(vocabulary(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    text: str = tokenizer.to_str()
    return text


def small_encoder() -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=300,
    )
    torch.manual_seed(0)
    return BertModel(config, add_pooling_layer=False)


@pytest.fixture
def made() -> tuple[GuardMini, Encoder, str]:
    tokenizer, words = widened(small_tokenizer())
    model = GuardMini(small_encoder())
    widen(model.encoder, json.loads(tokenizer)["model"]["vocab"], words)
    return model, Encoder(tokenizer), tokenizer


def test_every_emoji_is_a_token_of_its_own_beside_any_letter() -> None:
    tokenizer, words = widened(small_tokenizer())
    known = json.loads(tokenizer)["model"]["vocab"]
    tokens = Encoder(tokenizer).tokens(["a\U0001f600\U0001f525fool\U0001f3ff"])[0]
    assert tokens.ids == [known[piece] for piece in ("a", "\U0001f600", "\U0001f525", "fool", "\U0001f3ff")]
    assert tokens.offsets[-1] == (7, 8)
    assert list(words[known["\U0001f600"]]) == ["grinning", "face"]


def test_new_tokens_begin_as_the_words_of_their_names(made: tuple[GuardMini, Encoder, str]) -> None:
    known = json.loads(made[2])["model"]["vocab"]
    rows = made[0].encoder.embeddings.word_embeddings.weight
    assert torch.allclose(rows[known["\U0001f600"]], (rows[known["grinning"]] + rows[known["face"]]) / 2)
    kinds = made[0].encoder.embeddings.token_type_embeddings.weight
    assert len(kinds) == 8
    assert torch.equal(kinds[6], kinds[0])
    assert torch.equal(kinds[7], kinds[1])


def outputs(labels: torch.Tensor, entities: torch.Tensor) -> Outputs:
    parts = labels.split([len(names) for names in HEADS.values()], 1)
    return Outputs(*parts[:3], parts[3].unsqueeze(1), entities, torch.zeros(len(labels), 4))


def test_an_unknown_label_has_no_gradient() -> None:
    logits = torch.zeros(2, len(LABELS), requires_grad=True)
    known = torch.full((2, len(LABELS)), float("nan"))
    known[0, 0], known[1, 7] = 1, 0
    made = outputs(logits, torch.zeros(2, 1, len(BIO)))
    label_loss(made, known, torch.tensor([1.0, 0.5]), made.grounding[:, 0]).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).nonzero().tolist() == [[0, 0], [1, 7]]
    assert logits.grad[0, 0] < 0 < logits.grad[1, 7]


def test_a_statement_is_as_false_as_its_falsest_word() -> None:
    tokens = torch.tensor([[[5.0], [-3.0], [2.0]], [[5.0], [-3.0], [-4.0]]])
    made = Outputs(*(torch.zeros(2, 1) for _ in range(3)), tokens, torch.zeros(2, 3, 1), torch.zeros(2, 4))
    inside = torch.tensor([[False, True, True], [False, True, True]])
    first, second = statement_logit(made, inside, torch.tensor([1.0, 0.5]))[:, 0]
    assert first.item() == pytest.approx(2.5, abs=0.01)
    assert second.item() == pytest.approx(-2.44, abs=0.02)


def test_a_word_of_which_nobody_knows_teaches_nothing() -> None:
    logits = torch.zeros(1, 4, 1, requires_grad=True)
    made = Outputs(*(torch.zeros(1, 1) for _ in range(3)), logits, torch.zeros(1, 4, 1), torch.zeros(1, 4))
    support_loss(made, torch.tensor([[IGNORED, 1, 0, IGNORED]])).backward()
    assert logits.grad is not None
    grown = logits.grad[0, :, 0].tolist()
    assert grown[0] == grown[3] == 0
    assert grown[1] < 0 < grown[2]
    assert -grown[1] > grown[2]


def test_an_ignored_token_has_no_gradient() -> None:
    logits = torch.zeros(1, 3, len(BIO), requires_grad=True)
    entity_loss(outputs(torch.zeros(1, len(LABELS)), logits), torch.tensor([[IGNORED, 1, 0]])).backward()
    assert logits.grad is not None
    assert [bool(row.any()) for row in logits.grad[0]] == [False, True, True]


def test_padding_changes_nothing(made: tuple[GuardMini, Encoder, str]) -> None:
    model, encoder, _ = made
    model.eval()
    items = [Example("you are a fool", "x", {"toxic": 1.0}), Example("ana lives in paris " * 9, "x", {"toxic": 0.0})]
    both = arrays(items, encoder, _seeded(), augment=False)
    alone = arrays(items[:1], encoder, _seeded(), augment=False)
    first, second = (model(*(torch.from_numpy(part) for part in (b.ids, b.mask, b.types))) for b in (both, alone))
    for name in ("toxicity", "injection", "harmful", "embedding"):
        assert torch.allclose(getattr(first, name)[0], getattr(second, name)[0], atol=1e-5)
    length = alone.ids.shape[1]
    assert torch.allclose(first.grounding[0, :length], second.grounding[0], atol=1e-5)


def _seeded() -> Any:
    from random import Random

    return Random(0)


def examples() -> list[Example]:
    made = []
    for n in range(60):
        made.append(Example("you are a fool " + "the " * (n % 5), "own", {"toxic": 1.0, "user": 0.0}))
        made.append(Example("you are kind " + "the " * (n % 5), "own", {"toxic": 0.0, "user": 0.0}))
        made.append(Example("Ana lives in Paris", "own", spans=((0, 3, "PERSON"), (13, 18, "LOCATION"))))
        made.append(
            Example("costs five", "own", {"unsupported": float(n % 2)}, context=f"costs {('five', 'six')[n % 2]}")
        )
    return made


def test_a_few_steps_learn_and_a_run_goes_on(made: tuple[GuardMini, Encoder, str], tmp_path: Path) -> None:
    from training.predict import entities, label_logits

    model, encoder, tokenizer = made
    settings = Settings(epochs=6, rate=5e-3, average=0.5, save_every=2)
    fit(model, small_encoder(), encoder, examples(), settings, tmp_path, resume=False)
    run = torch_run(model)
    found = label_logits(run, encoder, ["you are a fool", "you are kind", ""])["toxicity"][:, 0]
    assert found[0] > found[1]
    assert np.isfinite(found).all()
    assert entities(run, encoder, ["Ana lives in Paris"]) == [[(0, 3, "PERSON"), (13, 18, "LOCATION")]]
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    again = GuardMini(small_encoder())
    widen(again.encoder, json.loads(tokenizer)["model"]["vocab"], {})
    fit(again, small_encoder(), encoder, examples(), settings, tmp_path, resume=True)
    assert state["done"] > 0
    for name, value in model.state_dict().items():
        assert torch.allclose(value, again.state_dict()[name], atol=1e-4), name


def test_a_model_directory_that_runs_like_the_model(made: tuple[GuardMini, Encoder, str], tmp_path: Path) -> None:
    from training.export import onnx_run, write_directory, write_graph

    model, encoder, tokenizer = made
    model.eval()
    write_graph(model, small_encoder(), tokenizer, tmp_path / "full.onnx")
    batch = arrays(examples()[:4], encoder, _seeded(), augment=False)
    torched, onnxed = (
        run(batch.ids, batch.mask, batch.types) for run in (torch_run(model), onnx_run(tmp_path / "full.onnx"))
    )
    for name, value in onnxed.items():
        assert np.allclose(value, torched[name], atol=0.05)  # PyTorch's side may be bfloat16
    known = {label: (np.array([-1.0, 0.5, 2.0]), np.array([0, 0, 1])) for label in LABELS}
    out = tmp_path / "made"
    write_directory(tmp_path / "full.onnx", tokenizer, encoder, examples()[:20], out)
    from training.export import card

    made_card = card(out, {"fp32": {"a": 0.5}}, {"fp32": known, "int8": known})
    assert Card.parse(made_card.text()) == made_card
    assert made_card.head("injection").threshold("user", "context") is not None
    assert set(made_card.files) >= {"tokenizer.json", *made_card.graphs.values()}
