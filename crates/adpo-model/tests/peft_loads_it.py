"""Loads a saved base and saved adapters with PEFT and compares logits and gradients with ours.

Usage: python peft_loads_it.py BASE ADAPTERS EXPECTED.json, where EXPECTED holds `ids`, a list of token ids, `logits`, one list per
id, and `gradients` of the mean log-prob of each id given those before it, flat, by PEFT's names. Prints the largest differences;
exit status 1 where a logit is off by more than 1e-4, a gradient by more than 1e-4 of its tensor's norm, or a name does not fit.
"""

import json
import sys

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

base, adapters, expected_path = sys.argv[1:]
with open(expected_path) as file:
    expected = json.load(file)

model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
model = PeftModel.from_pretrained(model, adapters, is_trainable=True)
# PEFT writes `lora_A.weight` and loads it as `lora_A.default.weight`.
named = {name.replace(".default", ""): tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
with safe_open(f"{adapters}/adapter_model.safetensors", "pt") as file:
    stored = {name: file.get_tensor(name) for name in file.keys()}
if named.keys() != stored.keys():
    sys.exit(f"trained by PEFT, or stored, but not both: {sorted(named.keys() ^ stored.keys())}")
if not all(torch.equal(named[name], stored[name]) for name in stored):
    sys.exit("PEFT has other numbers than the file")

ids = torch.tensor([expected["ids"]])
logits = model(ids).logits[0]
worst = (logits - torch.tensor(expected["logits"])).abs().max().item()
log_probs = torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])
log_probs.mean().backward()
off = {}
for name, tensor in named.items():
    ours = torch.tensor(expected["gradients"][name]).reshape(tensor.shape)
    off[name] = ((ours - tensor.grad).norm() / tensor.grad.norm()).item()
name = max(off, key=off.get)
print(f"logits: {worst:.2e}; gradients: {off[name]:.2e} of the norm of {name}")
if not (worst <= 1e-4 and off[name] <= 1e-4):
    sys.exit("the two differ")
