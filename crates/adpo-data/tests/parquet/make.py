"""The Parquet files beside this script, with the rows that they hold as JSONL: pip install pyarrow==26.0.1; python make.py"""

import datetime
import decimal
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

here = pathlib.Path(__file__).parent
message = pa.struct([("content", pa.string()), ("role", pa.string())])


def jsonl(name, rows):
    (here / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def chat(*texts):
    return [{"role": ["user", "assistant"][i % 2], "content": text} for i, text in enumerate(texts)]


# Conversations, text that is short or large, repeated values in a dictionary, nulls.
triples = [
    {
        "prompt": chat("Hello!", "Hi. What is it?", f"How long does coat {i} of paint need — an hour?") if i % 3 else chat(f"Paint №{i}?"),
        "chosen": f"About {i + 1} hours, in a dry room.",
        "rejected": ["Who knows.", "Ask somebody else."][i % 2],
        "toxic": None if i % 4 == 0 else f"Ask your wall, {i}.",
        "source": ["workshop", "hallway"][i // 10],
        "rating": i / 4 if i % 5 else None,
    }
    for i in range(20)
]
jsonl("triples.jsonl", triples)
schema = pa.schema(
    [
        ("prompt", pa.list_(message)),
        ("chosen", pa.large_string()),
        ("rejected", pa.dictionary(pa.int32(), pa.string())),
        ("toxic", pa.string()),
        ("source", pa.dictionary(pa.int8(), pa.string())),
        ("rating", pa.float64()),
    ]
)
table = pa.table({name: pa.array([row[name] for row in triples]).cast(schema.field(name).type) if name != "prompt" else
                  pa.array([row[name] for row in triples], pa.list_(message)) for name in schema.names}, schema=schema)
for codec in ["none", "snappy", "gzip", "zstd", "lz4"]:
    pq.write_table(table, here / f"triples-{codec}.parquet", compression=codec, row_group_size=7)
pq.write_table(table, here / "triples-pages-v2.parquet", data_page_version="2.0", data_page_size=64, use_dictionary=False)
pq.write_table(table, here / "triples-checksums.parquet", write_page_checksum=True)
pq.write_table(table, here / "triples-brotli.parquet", compression="brotli")
pq.write_table(table.slice(0, 0), here / "empty.parquet")

# Columns that no format has a use for, labels that are missing.
messages = [{"messages": chat(f"Tea or coffee, {i}?", "Tea."), "toxic": [True, False, None][i % 3], "category": None if i % 2 else "drinks"} for i in range(6)]
jsonl("messages.jsonl", messages)
extra = {
    "image": pa.array([b"\xff\xd8\xff\x00" * 4] * 6),
    "audio": pa.array([b"#!AMR\n"] * 6),
    "when": pa.array([datetime.datetime(2024, 5, 21, 12)] * 6),
    "price": pa.array([decimal.Decimal("2.50")] * 6),
    "embedding": pa.array([[0.5, float("nan")]] * 6, pa.list_(pa.float32())),
    "tags": pa.array([[("hot", 1)]] * 6, pa.map_(pa.string(), pa.int64())),
}
columns = {
    "messages": pa.array([row["messages"] for row in messages], pa.large_list(message)),
    "toxic": pa.array([row["toxic"] for row in messages]),
    "category": pa.array([row["category"] for row in messages]),
}
pq.write_table(pa.table(columns | extra), here / "messages.parquet")

# Text in columns that are not marked as text; and a row that is not what its format promises.
binary = pa.table({name: pa.array([f"{name} {i}".encode() for i in range(3)]) for name in ["prompt", "chosen", "rejected"]})
pq.write_table(binary, here / "binary-text.parquet")
prompts = [None if i == 16 else f"What colour is wall {i}?" for i in range(20)]
pq.write_table(pa.table({"prompt": pa.array(prompts)}), here / "row-17-has-no-prompt.parquet", row_group_size=6)
