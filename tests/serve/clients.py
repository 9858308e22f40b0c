"""Talks to `adpo serve` with the `openai` client, and lets lm-eval run two small tasks of our own through it, offline.

Usage: python clients.py ADPO TOKENIZER, where ADPO is the built program and TOKENIZER the folder of the embedded base, whose tokenizer
lm-eval cuts its prompts with. Exit status 1 where anything is not as it has to be.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OPENAI_API_KEY="open sesame")

import lm_eval  # noqa: E402
import openai  # noqa: E402
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

MODEL = "embedded:tiny-base"
QUESTIONS = [
    {"question": "I like to drink hot", "choices": ["coffee", "gravel", "windows"], "answer": 0},
    {"question": "Good morning, how are", "choices": ["of", "you", "Tuesday"], "answer": 1},
    {"question": "Thank you very", "choices": ["banana", "the", "much"], "answer": 2},
]
TASKS = {
    # Scored by log-likelihood: /v1/completions with echo.
    "adpo_choice": """
task: adpo_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: '{data}'}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc}}]
""",
    # Drawn: both endpoints.
    "adpo_say": """
task: adpo_say
dataset_path: json
dataset_kwargs: {{data_files: {{test: '{data}'}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: [".", "!"], max_gen_toks: 12, temperature: 0}}
metric_list: [{{metric: exact_match}}]
""",
}


def with_openai(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    asked = dict(model=MODEL, messages=[{"role": "user", "content": "My kids want a pet."}], seed=7, max_tokens=30)
    answer = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2, n=2)
    texts = [choice.message.content for choice in answer.choices]
    assert len(texts) == 2 and all(texts), answer
    said = "".join(token.token for token in answer.choices[0].logprobs.content)
    assert said.strip() == texts[0].strip(), (said, texts[0])
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    streamed = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert streamed == texts[0], (streamed, texts[0])
    assert chunks[-1].usage.completion_tokens > 0

    prompt = dict(model=MODEL, prompt="I like to drink hot", temperature=0, max_tokens=12)
    whole = client.completions.create(**prompt).choices[0].text
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**prompt, stream=True)) == whole
    stop = whole[4:9]
    stopped = client.completions.create(**prompt, stop=[stop]).choices[0]
    assert (stopped.text, stopped.finish_reason) == (whole.split(stop)[0], "stop")

    for error, change in [
        (openai.NotFoundError, dict(model="gpt-4")),
        (openai.BadRequestError, dict(frequency_penalty=1.0)),
        (openai.BadRequestError, dict(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])),
        (openai.BadRequestError, dict(extra_body={"toxic": True})),
        (openai.BadRequestError, dict(max_tokens=100_000)),
    ]:
        try:
            client.chat.completions.create(**{**asked, **change})
        except error:
            continue
        raise AssertionError(f"{change} was not refused by {error.__name__}")
    try:
        client.with_options(api_key="wrong").models.list()
    except openai.AuthenticationError:
        return
    raise AssertionError("a wrong key was taken")


def log_likelihood(client: openai.OpenAI, prompt: str, continuation: str) -> float:
    answer = client.completions.create(model=MODEL, prompt=prompt + continuation, echo=True, logprobs=1, max_tokens=0, temperature=0)
    given = answer.choices[0].logprobs
    start = len(prompt)
    return sum(log_prob for offset, log_prob in zip(given.text_offset, given.token_logprobs) if offset >= start)


def with_lm_eval(client: openai.OpenAI, url: str, tokenizer: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "questions.jsonl")
        data.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
        for name, task in TASKS.items():
            Path(folder, f"{name}.yaml").write_text(task.format(data=data))
        manager = TaskManager(include_path=folder, include_defaults=False)
        common = dict(model=MODEL, max_retries=1)
        completions = LocalCompletionsAPI(
            base_url=f"{url}/completions", tokenizer_backend="huggingface", tokenizer=tokenizer, max_length=512, num_concurrent=3, **common
        )
        run = lm_eval.simple_evaluate(
            completions, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0, log_samples=True, cache_requests=False
        )
        scored = {sample["doc"]["question"]: sample for sample in run["samples"]["adpo_choice"]}
        right = 0
        for question in QUESTIONS:
            ours = [log_likelihood(client, question["question"], f" {choice}") for choice in question["choices"]]
            theirs = [float(answer[0]) for answer in scored[question["question"]]["filtered_resps"]]
            assert all(abs(a - b) < 1e-3 for a, b in zip(ours, theirs, strict=True)), (question, ours, theirs)
            right += ours.index(max(ours)) == question["answer"]
        accuracy = run["results"]["adpo_choice"]["acc,none"]
        assert abs(accuracy - right / len(QUESTIONS)) < 1e-9, (accuracy, right)
        chat = LocalChatCompletion(base_url=f"{url}/chat/completions", **common)
        said = lm_eval.simple_evaluate(
            chat, tasks=["adpo_say"], task_manager=manager, bootstrap_iters=0, log_samples=True, apply_chat_template=True
        )
        for samples in (run["samples"]["adpo_say"], said["samples"]["adpo_say"]):
            texts = [sample["resps"][0][0] for sample in samples]
            assert len(texts) == len(QUESTIONS) and any(texts) and not any("." in text or "!" in text for text in texts), texts
        print(f"lm-eval: accuracy {accuracy:.2f} of {len(QUESTIONS)} questions, log-likelihoods as the openai client has them")


def main() -> None:
    adpo, tokenizer = sys.argv[1:]
    arguments = [adpo, "serve", MODEL, "--port", "0", "--api-key-env", "OPENAI_API_KEY"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().split()[-1]
            client = openai.OpenAI(base_url=url, max_retries=0)
            with_openai(client)
            print("openai: all as it has to be")
            with_lm_eval(client, url, tokenizer)
        finally:
            server.terminate()


main()
