"""Many clients at once at `adpo serve`, not all of them well-behaved, for as long as it takes.

Usage: python soak.py ADPO [REQUESTS] [CLIENTS] [SEED], where ADPO is the built program; 10,000 requests of 64 clients where nothing else is
said. Clients ask for texts (greedy and drawn, whole and streamed), hang up in the middle of a stream, read slowly, send broken JSON and
prompts that are too long. Exit status 1 unless

- every request is answered: with the text that the same request got when it was alone, or with the refusal that it deserves;
- memory does not grow by more than 5 % once three tenths of the requests are through (of 10,000 or more).
"""

import collections
import http.client
import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

MODEL = "embedded:tiny-base"
# The program keeps what it frees, and has met the sizes that come together after some 3,000 requests: three tenths of so many.
GROWTH = 1.05
LEAST_FOR_MEMORY = 10_000
WARM = 3
SUBJECTS = ["a pet", "the garden", "my old bicycle", "rainy days", "good soup", "a long walk", "the neighbours", "school", "music", "trains"]
OPENINGS = ["What do you think about", "Tell me about", "Why do people like", "How should I talk about"]
KINDS = ["text", "stream", "slow", "hang up", "broken", "too long"]
SHARES = [45, 25, 5, 15, 5, 5]


def question(number: int) -> dict:
    """The same question for the same number: half of them greedy."""
    text = f"{OPENINGS[number % 4]} {SUBJECTS[number % 10]}{'?' * (1 + number % 3)}"
    drawn = {"temperature": 0} if number % 2 == 0 else {"temperature": 0.8, "seed": number}
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 4 + number % 9, **drawn}


class Client:
    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def post(self, body: bytes) -> tuple[int, bytes]:
        self.connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def text(self, asked: dict) -> tuple[int, str]:
        status, body = self.post(json.dumps(asked).encode())
        answer = json.loads(body)
        return status, answer["choices"][0]["message"]["content"] if status == 200 else answer["error"]["code"] or ""

    def streamed(self, asked: dict, pause: float = 0.0) -> tuple[int, str]:
        """With a pause, the answer is read a few bytes at a time, from a small buffer."""
        body = json.dumps({**asked, "stream": True}).encode()
        if not pause:
            status, answer = self.post(body)
        else:
            with self.raw(body, buffer=2048) as stream:
                answer = bytearray()
                while part := stream.recv(256):
                    answer += part
                    time.sleep(pause)
            head, answer = bytes(answer).split(b"\r\n\r\n", 1)
            status, answer = int(head.split()[1]), unchunked(answer)
        if status != 200:
            return status, json.loads(answer)["error"]["code"] or ""
        events = answer.decode().removesuffix("\n\n").split("\n\n")
        assert events[-1] == "data: [DONE]", events[-1]
        chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
        return status, "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])

    def hang_up(self, asked: dict, after: int) -> None:
        """Goes away in the middle of a long answer, some of the time without a goodbye."""
        with self.raw(json.dumps({**asked, "stream": True, "max_tokens": 200}).encode()) as stream:
            if after % 2:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stream.recv(1 + after)

    def raw(self, body: bytes, buffer: int | None = None) -> socket.socket:
        stream = socket.socket()
        if buffer:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        stream.settimeout(300)
        stream.connect(("127.0.0.1", self.port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        stream.sendall(head.encode() + body)
        return stream


def unchunked(body: bytes) -> bytes:
    if not body[:1].isalnum() or body.startswith(b"data"):
        return body
    whole = b""
    while body:
        length, body = body.split(b"\r\n", 1)
        size = int(length, 16)
        whole, body = whole + body[:size], body[size + 2 :]
        if size == 0:
            return whole
    raise AssertionError("the stream has no end")


class Soak:
    def __init__(self, server: subprocess.Popen, port: int, requests: int, seed: int) -> None:
        self.server, self.port, self.requests, self.seed = server, port, requests, seed
        self.alone = {}
        self.lock = threading.Lock()
        self.done, self.problems = collections.Counter(), []
        self.next, self.memory = 0, []

    def resident(self) -> float:
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def ask_alone(self, numbers: int) -> None:
        client = Client(self.port)
        for number in range(numbers):
            status, self.alone[number] = client.text(question(number))
            assert status == 200 and self.alone[number], (number, status)

    def work(self) -> None:
        client = Client(self.port)
        while True:
            with self.lock:
                request, self.next = self.next, self.next + 1
                if request % (self.requests // 10) == 0:
                    self.memory.append(self.resident())
            if request >= self.requests:
                return
            # Which client takes a request is a matter of luck, what the request is is none.
            draw = random.Random(self.seed * 1_000_003 + request)
            kind = draw.choices(KINDS, SHARES)[0]
            number = draw.randrange(len(self.alone))
            try:
                told = self.one(client, kind, number, draw)
            except (OSError, http.client.HTTPException, ValueError, KeyError, AssertionError) as error:
                told = f"{type(error).__name__}: {error}"
                client = Client(self.port)
            with self.lock:
                self.done[kind] += 1
                if told:
                    self.problems.append(f"request {request} ({kind}): {told}")

    def one(self, client: Client, kind: str, number: int, draw: random.Random) -> str | None:
        """What is wrong with the answer, if anything is."""
        asked = question(number)
        if kind == "hang up":
            return client.hang_up(asked, draw.randrange(400))
        if kind == "broken":
            body = json.dumps(asked).encode()
            found = client.post(body[: draw.randrange(len(body))])[0]
            return None if found == 400 else f"status {found}"
        if kind == "too long":
            found = client.text({**asked, "messages": [{"role": "user", "content": "And then? " * draw.randrange(600, 2000)}]})
            return None if found == (400, "context_length_exceeded") else f"{found}"
        ask = {
            "text": lambda: client.text(asked),
            "stream": lambda: client.streamed(asked),
            "slow": lambda: client.streamed(asked, pause=0.01),
        }[kind]
        while (found := ask())[0] == 429:
            with self.lock:
                self.done["asked again, since too many waited"] += 1
            time.sleep(0.05)
        return None if found == (200, self.alone[number]) else f"{found}, and alone {self.alone[number]!r}"


def main() -> None:
    adpo, *numbers = sys.argv[1:]
    requests, clients, seed = [int(number) for number in numbers] + [10_000, 64, 1][len(numbers) :]
    with subprocess.Popen([adpo, "serve", MODEL, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline().split()[-1].removesuffix("/v1").rsplit(":", 1)[1])
            soak = Soak(server, port, requests, seed)
            soak.ask_alone(60)
            began = time.monotonic()
            threads = [threading.Thread(target=soak.work) for _ in range(clients)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            seconds = time.monotonic() - began
            assert server.poll() is None, "the server is gone"
            soak.ask_alone(2)
        finally:
            server.terminate()
    print(f"{requests} requests of {clients} clients in {seconds:.0f} s: {dict(soak.done)}")
    print(f"memory, tenth by tenth: {', '.join(f'{mebibytes:.1f}' for mebibytes in soak.memory)} MiB")
    answered = sum(soak.done[kind] for kind in KINDS)
    if answered != requests:
        soak.problems.append(f"only {answered} of {requests} requests came to an end")
    growth = soak.memory[-1] / soak.memory[WARM]
    if requests >= LEAST_FOR_MEMORY and growth > GROWTH:
        soak.problems.append(f"memory grew by {100 * (growth - 1):.1f} %")
    if soak.problems:
        raise SystemExit(f"{len(soak.problems)} problems, such as\n" + "\n".join(soak.problems[:20]))


main()
