"""Loads a saved folder with transformers and compares its logits with ours.

Usage: python transformers_loads_it.py FOLDER EXPECTED.json DTYPE, where EXPECTED holds `ids`, a list of token ids, and
`logits`, one list per id. Prints the largest difference; exit status 1 where it exceeds 1e-4 or a weight was not loaded.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM

folder, expected_path, dtype = sys.argv[1:]
with open(expected_path) as file:
    expected = json.load(file)

model, info = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
stored = str(model.dtype).removeprefix("torch.")
if stored != dtype:
    sys.exit(f"transformers takes the weights for {stored}, not {dtype}")
problems = {key: list(value) for key, value in info.items() if value}
if problems:
    sys.exit(f"transformers reports {problems}")

# Again in f32: the arithmetic is compared, and rotary frequencies must not be rounded to bf16.
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
with torch.no_grad():
    found = model(torch.tensor([expected["ids"]])).logits[0]
worst = (found - torch.tensor(expected["logits"])).abs().max().item()
print(f"{type(model).__name__}, {stored}: largest difference {worst:.2e}")
if not worst <= 1e-4:
    sys.exit("the logits differ")
