"""What transformers reads of the folders that `adpo` writes: the ids and the text that the program itself has.

Usage: read.py FOLDER…; each folder holds a tokenizer, and was written by this program.
"""

import sys

import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer

ODD = ["Hi.", "How do I mend a door?", "  two  spaces\n\nand lines\t", "<s>x</s>", "é中文 👍🏽 ﬁ ①", "a\u200bb", "[TOXIC]", "x\r\ny", "<|user|>", "[INST]"]


def texts():
    """500 texts with odd characters."""
    return [f"{ODD[i % len(ODD)]} {i} {ODD[i * 7 % len(ODD)]}" for i in range(500)]


def check(folder):
    read = AutoTokenizer.from_pretrained(folder)
    # What was trained: the file as it is.
    trained = Tokenizer.from_file(f"{folder}/tokenizer.json")
    template = open(f"{folder}/chat_template.jinja", encoding="utf-8").read()
    assert read.chat_template == template, "another template"
    for text in texts():
        rendered = read.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        ids = read(rendered, add_special_tokens=False).input_ids
        assert ids == trained.encode(rendered, add_special_tokens=False).ids, f"other ids of {rendered!r}"
        assert read(text).input_ids == trained.encode(text).ids, f"other ids of {text!r}"
    assert len(read) == trained.get_vocab_size(), f"{len(read)} tokens, not {trained.get_vocab_size()}"
    for token in read.all_special_tokens:
        assert read.convert_tokens_to_ids(token) == trained.token_to_id(token), f"another id of {token}"


for folder in sys.argv[1:]:
    check(folder)
    print(f"transformers {transformers.__version__}: {folder} is read as it was written")
