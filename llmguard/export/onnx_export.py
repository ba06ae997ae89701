"""From PyTorch to an ONNX graph whose attention, normalisation and GELU are single operators."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmguard.errors import ConfigurationError, MissingExtraError, ModelLoadError
from llmguard.inference import runtimes

if TYPE_CHECKING:
    import torch

#: FP16 scales of quantised weights need 19 (DequantizeLinear).
OPSET = 19
# A protobuf message ends at 2 GB.
_LIMIT = 2_000_000_000


def to_onnx(
    module: torch.nn.Module,
    target: Path,
    *,
    inputs: Sequence[str],
    outputs: Mapping[str, Sequence[str]],
    layers: int,
    attention_heads: int,
    hidden: int,
    tokens: int = 100,
    must_fuse: bool = True,
) -> dict[str, int]:
    """Write a fused float32 graph.

    The exporter is PyTorch's older one, by tracing: only of its graphs ONNX Runtime's optimizer recognises attention.

    Args:
        module: int64 tensors [batch, length] in, in the order of ``inputs``; a tensor or a tuple of them out. In
            evaluation mode, with eager attention.
        target: the file.
        inputs: names, among them ``attention_mask``, whose sample is all ones.
        outputs: names and their free axes, ``("batch",)`` or ``("batch", "length")``.
        layers: of the encoder.
        attention_heads: of each layer.
        hidden: the width.
        tokens: the sample's tokens are lower than this.
        must_fuse: attention that is not recognised is an error; otherwise the count says so.

    Returns:
        How many operators of each fused kind there are.

    Raises:
        ModelLoadError: the graph can't be traced, or not all of its layers were fused.
        ConfigurationError: the module is in training mode, or too large for one file.
        MissingExtraError: ``torch``, ``onnx`` or ``onnxruntime`` is not installed.
    """
    runtimes.onnxruntime()  # with its reports off
    try:
        import onnx  # noqa: F401 - the optimizer needs it and would fail later
        import torch
        from onnxruntime.transformers import optimizer
    except ImportError as error:
        raise MissingExtraError("exporting a model", str(error.name), "export") from None
    if module.training:
        raise ConfigurationError("the module is in training mode: dropout would be part of the graph")
    size = sum(value.numel() * value.element_size() for value in module.parameters())
    if size > _LIMIT:
        raise ConfigurationError(f"{size / 1e9:.1f} GB of weights: one ONNX file holds 2")
    shape = (2, 11)  # two sizes that are equal to no other size in the model
    sample = tuple(
        torch.ones(shape, dtype=torch.int64)
        if name == "attention_mask"
        else torch.zeros(shape, dtype=torch.int64)
        if name == "token_type_ids"
        else torch.arange(22).reshape(shape) % max(tokens - 5, 1) + min(5, tokens - 1)
        for name in inputs
    )
    axes = {name: {0: "batch", 1: "length"} for name in inputs}
    axes |= {name: dict(enumerate(free)) for name, free in outputs.items()}
    raw = target.with_name(target.name + ".raw")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's warnings are about itself
            torch.onnx.export(
                module,
                sample,
                str(raw),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
            fused = optimizer.optimize_model(
                str(raw),
                model_type="bert",
                num_heads=attention_heads,
                hidden_size=hidden,
                optimization_options=_options(),
                opt_level=0,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError, TypeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0][:200]
        raise ModelLoadError(f"the model can't be traced: {type(error).__name__}: {first}") from None
    finally:
        raw.unlink(missing_ok=True)
    found = _counted(fused.model)
    if must_fuse:
        _check(found, layers)
    fused.save_model_to_file(str(target))
    return found


def _options() -> Any:
    """What is fused, by what runs fastest (docs/models.md has the figures).

    Attention with its three products apart: they quantise one by one, and both runtimes read it. Not the addition
    before a normalisation and not GELU's bias: runtimes do these better by themselves.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.use_multi_head_attention = True
    options.enable_embed_layer_norm = False
    options.enable_skip_layer_norm = False
    options.enable_bias_skip_layer_norm = False
    options.enable_bias_gelu = False
    return options


def _counted(model: Any) -> dict[str, int]:
    kinds = Counter(node.op_type for node in model.graph.node)
    return {
        "attention": kinds["MultiHeadAttention"] + kinds["Attention"],
        "normalisation": kinds["LayerNormalization"],
        "gelu": kinds["Gelu"] + kinds["BiasGelu"] + kinds["FastGelu"],
    }


def _check(found: Mapping[str, int], layers: int) -> None:
    for kind, least in (("attention", layers), ("normalisation", 2 * layers), ("gelu", layers)):
        if found[kind] < least:
            raise ModelLoadError(f"only {found[kind]} operators of {kind} were fused, {least} were expected")
