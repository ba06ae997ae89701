"""``python -m training --data DIR --out DIR``: guard-mini from public data and our own, with its dev figures."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

from training.base import base_directory

_log = logging.getLogger("training")


def main() -> None:
    """Read, train, measure, calibrate, export."""
    options = _options()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout), logging.FileHandler(out / "training.log")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers)

    import torch

    from training.dev import lines_of, measure, measure_held
    from training.emoji import widened
    from training.encode import Encoder
    from training.model import GuardMini, load_base, widen
    from training.predict import torch_run
    from training.sources import examples, held_out
    from training.train import Settings, fit

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    base = base_directory()
    tokenizer, words = widened((base / "tokenizer.json").read_text(encoding="utf-8"))
    encoder = Encoder(tokenizer)
    model = GuardMini(load_base(base))
    widen(model.encoder, json.loads(tokenizer)["model"]["vocab"], words)
    everything = examples(options.data / "train", options.seed, own=not options.public_only)
    items = [item for item in everything if item.source not in options.leave_out]
    held = [item for item in items if held_out(item)]
    settings = Settings(epochs=options.epochs, share=options.share, rate=options.rate, seed=options.seed)
    started = time.monotonic()
    weights = out / "weights.pt"
    if options.as_it_is:
        state = torch.load(out / "checkpoint.pt", weights_only=True, map_location="cpu")
        model.load_state_dict(state["shadow"])
        model.eval()
    elif options.average:
        parts = [torch.load(path, weights_only=True, map_location="cpu") for path in options.average]
        model.load_state_dict({name: sum(part[name] for part in parts) / len(parts) for name in parts[0]})
        model.eval()
        torch.save(model.state_dict(), weights)
    elif options.resume and weights.exists():
        model.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
        model.eval()
    else:
        if options.start:
            learned = torch.load(options.start, weights_only=True, map_location="cpu")
            told = model.load_state_dict(learned, strict=False)
            _log.info("starts from %s; new: %s", options.start.name, ", ".join(told.missing_keys) or "nothing")
        chosen = [item for item in items if not held_out(item)]
        fit(model, load_base(base), encoder, chosen, settings, out, options.resume)
        torch.save(model.state_dict(), weights)
    _log.info("trained in %.0f s", time.monotonic() - started)
    run = torch_run(model)
    seen = measure(run, encoder, options.data / "dev", limit=options.limit)
    kept = measure_held(run, encoder, held)
    for line in lines_of(seen.figures | kept.figures):
        _log.info("%s", line)
    (out / "figures.json").write_text(json.dumps(seen.figures | kept.figures, indent=1), encoding="utf-8")
    if options.export:
        from training.export import export

        directory = out / "guard-mini"
        export(model, base, tokenizer, encoder, options.data / "dev", held, directory, options.limit)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory with train/ and dev/")
    parser.add_argument("--out", type=Path, required=True, help="for the model, its checkpoints and the log")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of each epoch's rows, for a trial")
    parser.add_argument("--rate", type=float, default=1e-4, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--start", type=Path, help="weights.pt of an earlier run to go on from, on new data")
    parser.add_argument("--average", type=Path, nargs="+", help="weights.pt of runs whose mean is taken, untrained")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    parser.add_argument("--as-it-is", action="store_true", help="measure and export the last checkpoint")
    parser.add_argument("--limit", type=int, default=None, help="rows of each dev set, for a trial")
    parser.add_argument("--public-only", action="store_true", help="without our own rows, to see what they do")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="SOURCE", help="sources not to train on")
    parser.add_argument("--no-export", dest="export", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    main()
