"""The training loop: bfloat16 where the processor has it, an average of the weights, and checkpoints to go on from."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.batches import Batch, arrays, epoch
from training.encode import SEP, Encoder
from training.labels import Example
from training.loss import embedding_loss, entity_loss, label_loss, statement_logit, support_loss
from training.model import GuardMini, Outputs, mean_pool

_log = logging.getLogger(__name__)
_UNKNOWN = 100  # what the base reads for an emoji
_ROWS = 48  # a batch's sum of losses is divided by this, so that a row weighs the same in a long batch and a short one


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how fast to learn.

    Attributes:
        epochs: passes over the epoch's mixture.
        share: of each epoch's rows, for trials.
        rate: highest learning rate, of the upper layer.
        decay: of the learning rate from each layer to the one below.
        warm: part of all steps in which the rate rises.
        average: decay of the running average of the weights.
        teach_every: steps between two comparisons of the embedding with the base's.
        save_every: steps between two checkpoints.
        seed: of everything that is drawn.
    """

    epochs: int = 2
    share: float = 1.0
    rate: float = 1e-4
    decay: float = 0.9
    warm: float = 0.05
    average: float = 0.999
    teach_every: int = 6
    save_every: int = 200
    seed: int = 7


def device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half(where: torch.device) -> bool:
    """Whether bfloat16 is faster there than float32: it was 1.6 times as fast with AVX512-BF16, and slower without."""
    if where.type == "cuda":
        return True
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def fit(
    model: GuardMini, base: Any, encoder: Encoder, items: Sequence[Example], settings: Settings, out: Path, resume: bool
) -> GuardMini:
    """Train, and return the model with its averaged weights.

    Args:
        model: what learns.
        base: the encoder whose sentence embedding is kept.
        encoder: tokenizes.
        items: the training examples.
        settings: how.
        out: where ``checkpoint.pt`` lies.
        resume: go on from it if it is there.
    """
    where = device()
    model.to(where).train()
    base.to(where).eval()
    plan = [epoch(items, _random(settings, "epoch", n), settings.share) for n in range(settings.epochs)]
    steps = [batch for part in plan for batch in part]
    optimizer = torch.optim.AdamW(_groups(model, settings), weight_decay=0.01, fused=True)
    shadow = {name: value.detach().clone() for name, value in model.state_dict().items()}
    done = 0
    file = out / "checkpoint.pt"
    if resume and file.exists():
        state = torch.load(file, map_location=where, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        shadow, done = state["shadow"], state["done"]
        if state["steps"] != len(steps):
            raise SystemExit(f"the checkpoint is of a run of {state['steps']} steps, this one has {len(steps)}")
    _log.info("%d examples, %d steps, from step %d, on %s", len(items), len(steps), done, where)
    started, since, tokens, losses = time.monotonic(), done, 0, [0.0, 0.0, 0.0, 0.0]
    for step in range(done, len(steps)):
        factor = _schedule(step / len(steps), settings.warm)
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * factor
        torch.manual_seed(settings.seed * 1_000_003 + step)
        batch = arrays(steps[step], encoder, _random(settings, "step", step))
        parts = _losses(model, base if step % settings.teach_every == 0 else None, batch, where)
        sum(parts, start=torch.zeros((), device=where)).div(_ROWS).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        _average(shadow, model, min(settings.average, (1 + step) / (10 + step)))
        tokens += batch.ids.size
        losses = [
            0.98 * old + 0.02 * float(new.detach()) / len(batch.ids) for old, new in zip(losses, parts, strict=True)
        ]
        if (step + 1) % 25 == 0:
            spent = time.monotonic() - started
            left = spent / (step + 1 - since) * (len(steps) - step - 1)
            _log.info(
                "step %d of %d, labels %.3f, entities %.3f, support %.3f, %.0f tokens/s, %.0f min left",
                step + 1,
                len(steps),
                *losses[:2],
                losses[3],
                tokens / spent,
                left / 60,
            )
        if (step + 1) % settings.save_every == 0:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "shadow": shadow,
                "done": step + 1,
                "steps": len(steps),
            }
            torch.save(state, file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)
    model.load_state_dict(shadow)
    model.eval()
    return model


def _random(settings: Settings, what: str, number: int) -> random.Random:
    # Seeded by its place, so that a run that goes on draws as one that was never cut off.
    return random.Random(f"{settings.seed}:{what}:{number}")  # noqa: S311 - sampling, no secrets


def _losses(model: GuardMini, base: Any, batch: Batch, where: torch.device) -> list[Tensor]:
    ids, mask, types, known, weight, entities, false = (
        torch.from_numpy(value).to(where, non_blocking=True)
        for value in (batch.ids, batch.mask, batch.types, batch.known, batch.weight, batch.entities, batch.false)
    )
    with torch.autocast(where.type, dtype=torch.bfloat16, enabled=half(where)):
        outputs: Outputs = model(ids, mask, types)
        taught = torch.zeros((), device=where)
        if base is not None:
            with torch.no_grad():
                old = ids.where(ids < base.config.vocab_size, _UNKNOWN)
                states = base(input_ids=old, attention_mask=mask).last_hidden_state.float()
                target = torch.nn.functional.normalize(mean_pool(states, mask.unsqueeze(-1).float()), dim=-1)
            taught = embedding_loss(outputs, target) * 3
    inside = (types % 2 == 1) & (mask == 1) & (ids != SEP)
    grounding = statement_logit(outputs, inside, model.support.statement)
    labels = label_loss(outputs, known, weight, grounding)
    return [labels, entity_loss(outputs, entities), taught, support_loss(outputs, false)]


def _groups(model: GuardMini, settings: Settings) -> list[dict[str, Any]]:
    layers = len(model.encoder.encoder.layer)
    groups: dict[float, list[Tensor]] = {}
    for name, value in model.named_parameters():
        if not name.startswith("encoder."):
            rate = settings.rate * 6
        elif ".layer." in name:
            rate = settings.rate * settings.decay ** (layers - 1 - int(name.split(".layer.")[1].split(".")[0]))
        else:
            rate = settings.rate * settings.decay**layers
        groups.setdefault(rate, []).append(value)
    return [{"params": values, "highest": rate, "lr": rate} for rate, values in groups.items()]


def _schedule(part: float, warm: float) -> float:
    return part / warm if part < warm else 0.5 * (1 + math.cos(math.pi * (part - warm) / (1 - warm))) + 0.01


def _average(shadow: dict[str, Tensor], model: GuardMini, decay: float) -> None:
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                shadow[name].lerp_(value, 1 - decay)
