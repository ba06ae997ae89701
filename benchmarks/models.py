"""A Detoxify-shaped checkpoint through us against Detoxify itself, and what the bundled models take.

Needs PyTorch, transformers and Detoxify: pip install torch==2.13.0, then 'llmguard[standard,export]' detoxify.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.texts import prose
from benchmarks.timing import row
from llmguard.inference.processor import processor
from llmguard.inference.store import open_model
from llmguard.types import Text

CLASSES = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
TOKENS, BATCH = 128, 32
ROUNDS = 7


def texts(count: int, tokens: int = TOKENS) -> list[str]:
    """Different texts of real sentences that take about that many tokens each."""
    size = tokens * 4
    return [prose(40_000)[start : start + size].strip() for start in range(0, count * 97, 97)]


def checkpoint(folder: Path) -> Path:
    """A BERT-base of random weights in Detoxify's file format, with the tokenizer of our own model."""
    import torch
    import transformers

    config = folder / "config"
    config.mkdir(parents=True)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(open_model("guard-mini").tokenizer),
        model_max_length=512,
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    )
    tokenizer.save_pretrained(config)
    torch.manual_seed(0)
    settings = transformers.BertConfig(
        vocab_size=len(tokenizer), num_labels=len(CLASSES), problem_type="multi_label_classification"
    )
    model = transformers.BertForSequenceClassification(settings).eval()
    settings.save_pretrained(config)
    arch = {
        "model_type": str(config),
        "model_name": "BertForSequenceClassification",
        "tokenizer_name": "PreTrainedTokenizerFast",
        "num_classes": len(CLASSES),
    }
    path = folder / "checkpoint.ckpt"
    said = {"dataset": {"args": {"classes": CLASSES}}, "arch": {"args": arch}}
    torch.save({"config": said, "state_dict": model.state_dict()}, path)
    return path


def seconds(call: Callable[[Sequence[str]], Any], batches: Sequence[Sequence[str]]) -> list[float]:
    """Seconds of each batch, after one that does not count."""
    call(batches[0])
    took = []
    for batch in batches[1:]:
        started = time.perf_counter()
        call(batch)
        took.append(time.perf_counter() - started)
    return took


def against(name: str, calls: dict[str, Callable[[Sequence[str]], Any]], size: int, bound: float) -> bool:
    """Rows of the calls in turn on batches of that size, against the first."""
    pool = texts(size * (ROUNDS + 1))
    batches = [pool[start : start + size] for start in range(0, len(pool), size)]
    took: dict[str, list[float]] = {what: [] for what in calls}
    for first in range(0, ROUNDS, 2):
        for what, call in calls.items():
            took[what] += seconds(call, batches[first : first + 3])
    held = True
    best = {what: min(values) for what, values in took.items()}
    (peer, base), *ours = best.items()
    row(f"{peer}, {name}", f"{base * 1e3:.1f} ms", f"{size / base:.1f} texts/s")
    for what, value in ours:
        held &= row(
            f"{what}, {name}",
            f"{value * 1e3:.1f} ms",
            f"{base / value:.2f} times as fast, {size / value:.1f} texts/s",
            f">= {bound}",
            holds=base / value >= bound,
        )
    return held


def main() -> bool:
    from detoxify import Detoxify

    from llmguard.detectors.classifier import ToxicityDetector
    from llmguard.export import build, detoxify

    cpu = processor()
    row("cores, instructions", str(cpu.cores), ", ".join(sorted(getattr(cpu, "features", ()))))
    has_amx = cpu.amx
    held = True
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = checkpoint(Path(place) / "original")
        peer = Detoxify(checkpoint=str(path), huggingface_config_path=str(path.parent / "config"))
        target = Path(place) / "exported"
        build.export(detoxify.load(str(path), config=str(path.parent / "config")), target, bounds={}, report=_parity)
        ours = ToxicityDetector(model=str(target))
        print(f"  {ours.encoder.session.runtime} {ours.encoder.session.precision} on {ours.encoder.session.device}")

        def check(batch: Sequence[str]) -> None:
            ours.encoder.forget()
            ours.detect([Text(text) for text in batch])

        calls: dict[str, Callable[[Sequence[str]], Any]] = {
            "Detoxify": lambda batch: peer.predict(list(batch)),
            "llmguard": check,
        }
        held &= against("batch 1", calls, 1, 4.5 if has_amx else 1.0)
        held &= against(f"batch {BATCH}", calls, BATCH, 5.0 if has_amx else 1.0)
    held &= bundled(has_amx=has_amx)
    return held


def _parity(parity: Any) -> None:
    row(f"{parity.precision} against PyTorch", f"{parity.greatest:.5f}", f"largest difference; mean {parity.mean:.6f}")


def bundled(*, has_amx: bool) -> bool:
    """Rows of guard-mini with all its heads."""
    from llmguard.detectors.classifier import ToxicityDetector

    mini = ToxicityDetector()
    print(f"  guard-mini: {mini.encoder.session.runtime} {mini.encoder.session.precision}")

    def check(batch: Sequence[str]) -> None:
        mini.encoder.forget()
        mini.detect([Text(text) for text in batch])

    one = min(seconds(check, [[text] for text in texts(40)]))
    many = min(seconds(check, [texts(64)] * 6))
    held = row("guard-mini, all heads, batch 1", f"{one * 1e3:.2f} ms", "", "<= 5 ms", holds=one <= 0.005)
    held &= row("guard-mini, all heads, batches", f"{64 / many:,.0f}/s", "", ">= 350/s", holds=64 / many >= 350)
    return held
