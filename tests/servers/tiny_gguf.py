"""Writes a language model of half a million weights, in GGUF, that answers what is known beforehand.

Run with the ``gguf`` package: ``python tiny_gguf.py FILE``. The weights of the layer are random and small, the
embeddings are random and orthogonal, and the last matrix leads from each token to the next one of a sentence: a prompt
that ends with a question mark is answered by `TOLD`, any other by `PLAIN`. Its tokens are those of the two sentences,
and bytes.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

PLAIN = ["▁All", "▁is", "▁well", "▁here"]
TOLD = ["▁Write", "▁to", "▁ad", "a@exa", "mple", ".com", "▁tod", "ay"]
WIDTH, HEADS, INNER, CONTEXT = 320, 4, 64, 1024
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% if not loop.last %}\n{% endif %}{% endfor %}"


def main(path: Path) -> None:
    special = [("<unk>", TokenType.UNKNOWN), ("<s>", TokenType.CONTROL), ("</s>", TokenType.CONTROL)]
    listed = [(f"<0x{byte:02X}>", TokenType.BYTE) for byte in range(256)]
    tokens = special + listed + [(piece, TokenType.NORMAL) for piece in PLAIN + TOLD]
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    for name, weights in tensors([text for text, _ in tokens]).items():
        writer.add_tensor(name, weights.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(tokens: list[str]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    embedded = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0][: len(tokens)]
    leads_to = np.zeros((len(tokens), WIDTH))
    for token, follower in enumerate(followers(tokens)):
        leads_to[follower] += embedded[token]

    def small(*shape: int) -> np.ndarray:
        return random.normal(scale=0.002, size=shape)

    layer = {name: small(WIDTH, WIDTH) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    layer |= {"ffn_gate": small(INNER, WIDTH), "ffn_up": small(INNER, WIDTH), "ffn_down": small(WIDTH, INNER)}
    layer |= {"attn_norm": np.ones(WIDTH), "ffn_norm": np.ones(WIDTH)}
    around = {"token_embd": embedded, "output_norm": np.ones(WIDTH), "output": leads_to}
    named = around | {f"blk.0.{name}": weights for name, weights in layer.items()}
    return {f"{name}.weight": weights for name, weights in named.items()}


def followers(tokens: list[str]) -> list[int]:
    """The token that each one leads to."""
    at = {text: number for number, text in enumerate(tokens)}
    found = [at[PLAIN[0]]] * len(tokens)
    found[at["<0x3F>"]] = at[TOLD[0]]
    for sentence in (PLAIN, TOLD):
        for one, other in zip(sentence, [*sentence[1:], "</s>"], strict=True):
            found[at[one]] = at[other]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
