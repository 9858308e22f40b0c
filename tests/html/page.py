"""Opens report.html in a real headless Chromium, from disk, and holds it to what it promises.

Usage: python page.py ADPO CHROMIUM RUN [SHOTS]. ADPO is the built program, CHROMIUM the browser, RUN the folder of a finished run whose
page is looked at as it is, and SHOTS a folder for screenshots. A small recipe is run besides, and texts that try to act are put into
what its models, files and server said. Exit status 1 where anything is not as it has to be.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

SHOWN = "</script><img src=x onerror=\"window.acted=1\">"
HOSTILE = f"{SHOWN}<script>window.acted=1</script> \u202edesrever <!-- {{{{ {{data}} \u2028 \x00\x1b[31m &lt;b&gt; [x](javascript:window.acted=1)"
PROMPTS = 180
RECIPE = """
name = "page"
seeds = [1, 2]
base = { checkpoint = "embedded:tiny-base" }
encoding = { max_length = 200 }
[preference]
sources = [{ id = "triples.jsonl", buckets = [0, 1] }]
train = { learning_rate = 1e-4, batch_size = 8 }
[[policies]]
name = "adpo"
objective.adpo = {}
[[policies]]
name = "dpo"
objective.dpo = { beta = 0.3 }
[evaluate]
sources = [{ id = "prompts.jsonl", buckets = [3, 5] }]
judge = "embedded"
draw = { max_new_tokens = 6 }
"""
LOOKS = {
    "light": dict(color_scheme="light", viewport=dict(width=1280, height=900)),
    "dark": dict(color_scheme="dark", viewport=dict(width=1280, height=900)),
    "narrow": dict(color_scheme="light", viewport=dict(width=390, height=844)),
}


def output(command: list[str]) -> str:
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def change(stage: Path, name: str, to: str) -> None:
    """Changes a file that a stage has made, as if it had made it so."""
    (stage / name).write_text(to)
    manifest = json.loads((stage / "manifest.json").read_text())
    manifest["outputs"][name] = hashlib.sha256((stage / name).read_bytes()).hexdigest()
    (stage / "manifest.json").write_text(json.dumps(manifest))


def hostile_run(adpo: str, folder: Path) -> Path:
    """The page of a run of many prompts and two seeds, in which every text that comes from outside tries to act."""
    triples = [dict(prompt=f"What about number {i}?", chosen="It is fine.", rejected="No.", toxic="Fool.") for i in range(40)]
    prompts = [dict(prompt=f"Tell me of thing {i}.", category="plain", harmful=i % 10 == 0) for i in range(90)]
    for name, rows in [("triples", triples), ("prompts", prompts)]:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.toml").write_text(RECIPE)
    command = [adpo, "run", str(folder / "recipe.toml"), "--run-dir", str(folder / "run"), "--data-dir", str(folder)]
    said = output(command)
    assert str(folder / "run" / "report.html") in said, said

    # What no tiny model says by itself, and more prompts than a screen has room for.
    system = f"dpo {HOSTILE}"
    for seed in (1, 2):
        stage = folder / f"run/seed-{seed}/report"
        rows = [json.loads(line) for line in (stage / "samples.jsonl").read_text().splitlines()]
        ids = list(dict.fromkeys(row["prompt_id"] for row in rows))
        few = {row["prompt_id"]: row for row in rows if row["model"] == rows[0]["model"]}
        for i in range(len(ids), PROMPTS):
            like = few[ids[i % len(ids)]]
            text = f"Number {i}: {HOSTILE}" if i % 15 == 0 else f"Tell me of thing {i}, in as many words as it takes."
            category = f"{SHOWN} \u202ex" if i % 15 == 0 else "plain"
            turns = [dict(role="user", content="Hello."), dict(role="assistant", content="Hello to you."), dict(role="user", content=text)]
            made = dict(prompt_id=f"made-{i}", prompt=turns if i % 4 == 0 else text, category=category)
            rows += [row | made for row in rows if row["prompt_id"] == like["prompt_id"]]
        rows[0].update(response=f"worst of all {HOSTILE}", toxicity=0.99)
        rows[1].update(response=f"plain as it is {HOSTILE}", toxicity=0.0)
        for verdict in ("toxic", "evasive", "coherent", "toxicity", "heads", "evasiveness", "coherence", "degenerate"):
            rows[2].pop(verdict, None)
        rows[2].update(state="unparsed", raw=HOSTILE)
        for row in rows:
            row["model"] = system if row["model"] == "dpo" else row["model"]
        change(stage, "samples.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        renamed = {name: json.loads((stage / name).read_text().replace('"dpo"', json.dumps(system))) for name in ("report.json", "outcomes.json")}
        renamed["report.json"]["judge"]["name"] = f"judge {HOSTILE}"
        renamed["report.json"]["notes"].append(f"note {HOSTILE}")
        renamed["report.json"]["environment"]["device"] = HOSTILE
        for name, value in renamed.items():
            change(stage, name, json.dumps(value))
    again = output(command)
    assert "[" not in again.split("the run is in")[0], f"a finished stage was run again: {again}"
    return folder / "run" / "report.html"


def counted(page: Page) -> int:
    return int(re.match(r"\d+", page.locator(".count").inner_text())[0])


def check_whole(page: Page) -> None:
    """Headline, planes, curves: there, with names and without a number that is none."""
    header = page.locator("header").inner_text()
    assert "Result" in header and "percentage points" in header and " [" in header, header
    titles = page.locator("figure h3").all_inner_texts()
    for title in ["Does it get less toxic by evading?", "Does it get less toxic by talking nonsense?", "How far did it go for it?"]:
        assert title in titles, titles
    for title in ["Loss", "Margin, chosen minus rejected", "Log-ratio, chosen", "Log-ratio, rejected", "Log-ratio, toxic", "Learning rate"]:
        assert title in titles, titles
    for drawing in page.locator("figure svg").all():
        assert drawing.get_attribute("aria-label") and drawing.locator("path, circle, rect").count() > 0
        assert "NaN" not in drawing.inner_html()
    assert page.locator("table caption").count() == page.locator("table").count()
    unnamed = page.evaluate("[...document.querySelectorAll('input, select')].filter((one) => !one.labels.length).length")
    assert unnamed == 0, f"{unnamed} controls have no label"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"the page is {wide} pixels too wide"


def check_seeds(page: Page) -> None:
    expect(page.locator("h1")).to_contain_text("2 seeds")
    assert "Does it refuse the right prompts?" in page.locator("figure h3").all_inner_texts()
    # Two seeds of three systems, a mark for each and one for each mean.
    assert page.locator("figure svg").first.locator(".mark").count() == 9


def check_table(page: Page) -> None:
    groups, everything = page.locator(".responses tbody"), counted(page)
    assert everything > 60, everything
    assert groups.count() < everything, "rows are made as they are asked for"
    while page.locator("button.more").is_visible():
        # Scrolling there may already have pressed it.
        page.evaluate("document.querySelector('button.more').click()")
    assert groups.count() == everything

    search = page.get_by_label("Search", exact=True)
    search.fill("TELL ME of thing")
    plain = counted(page)
    assert 0 < plain < everything
    search.fill("window.acted")
    assert plain + counted(page) >= everything > counted(page) > 0
    search.fill("no such words anywhere")
    assert counted(page) == 0 and groups.count() == 0
    search.fill("")
    page.get_by_label("Prompts").select_option("marked harmful")
    harmful = counted(page)
    assert 0 < harmful < everything and page.locator(".responses .prompt", has_text="marked harmful").count() == groups.count()
    assert page.locator(".responses .prompt", has_text="Tell me").count() == 0, "harmful prompts are covered"
    page.get_by_label("Prompts").select_option("all")
    page.get_by_label("Response is").select_option("not scored")
    assert counted(page) == 1
    page.get_by_label("Response is").select_option("anything")
    assert counted(page) == everything

    head = page.locator("th", has=page.get_by_role("button", name="toxicity"))
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    tops = "[...document.querySelectorAll('.responses tbody')].map((b) => Math.max(...[...b.rows].map((r) => parseFloat(r.cells[r.cells.length - 3].textContent)).filter((x) => !isNaN(x))))"
    falling = page.evaluate(tops)
    assert falling[0] == 0.99 and falling == sorted(falling, reverse=True), falling[:5]
    head.get_by_role("button").press("Enter")
    rising = page.evaluate(tops)
    assert head.get_attribute("aria-sort") == "ascending" and rising == sorted(rising) and rising[0] < 0.5
    head.get_by_role("button").click()


def check_cover(page: Page) -> None:
    worst = page.locator(".responses tbody").first
    assert "worst of all" not in worst.inner_text(), "toxic text is covered"
    cover = worst.get_by_role("button", name=re.compile("show .* words?, toxic")).first
    cover.focus()
    page.keyboard.press("Enter")
    text = worst.inner_text()
    assert f"worst of all {SHOWN}" in text and "\u27e8U+202E\u27e9" in text and "\u27e8U+0000\u27e9" in text, text
    page.keyboard.press("Enter")
    assert "worst of all" not in worst.inner_text(), "and covered again"
    page.get_by_label("show covered text").check()
    assert "worst of all" in worst.inner_text()
    page.get_by_label("Search", exact=True).fill("plain as it is")
    assert f"plain as it is {SHOWN}" in page.locator(".responses").inner_text()
    page.get_by_label("Search", exact=True).fill("")
    page.get_by_label("Seed").select_option("all")
    page.get_by_label("Category").select_option(index=1)
    assert counted(page) > 0


def check_inert(page: Page) -> None:
    assert page.evaluate("window.acted") is None, "text from outside acted"
    assert page.locator("img, iframe, object, embed, link, a").count() == 0
    assert page.locator("script").count() == 2
    seen = page.locator("body").inner_text() + page.title()
    assert not set("\u202e\u2028\x00\x1b") & set(seen), "what cannot be seen is shown by its number"


class Opened:
    """A page opened from disk. What it says on the console and asks for is kept."""

    def __init__(self, browser: Browser, path: Path, look: dict) -> None:
        self.said, self.asked, self.url = [], [], path.as_uri()
        self.page = browser.new_page(**look)
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(self.url)

    def close(self) -> None:
        self.page.close()
        assert not self.said, self.said
        assert self.asked == [self.url], self.asked


def shoot(page: Page, shots: list[str], name: str) -> None:
    if shots:
        page.screenshot(path=Path(shots[0], f"{name}.png"), full_page=True)


def check_print(page: Page) -> None:
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible() and page.locator("figure svg").first.is_visible()


def main() -> None:
    adpo, chromium, run, *shots = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        hostile = hostile_run(adpo, Path(folder))
        plain = Path(run, "report.html").resolve()
        # Root may not use Chromium's own sandbox.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        for name, look in LOOKS.items():
            opened = Opened(browser, plain, look)
            check_whole(opened.page)
            shoot(opened.page, shots, f"{name}")
            check_print(opened.page)
            shoot(opened.page, shots, f"{name}-print")
            if shots and name == "light":
                opened.page.pdf(path=Path(shots[0], "print.pdf"))
            opened.close()

            opened = Opened(browser, hostile, look)
            check_inert(opened.page)
            check_whole(opened.page)
            check_seeds(opened.page)
            shoot(opened.page, shots, f"{name}-hostile")
            check_table(opened.page)
            check_cover(opened.page)
            check_inert(opened.page)
            shoot(opened.page, shots, f"{name}-uncovered")
            opened.close()
        browser.close()
    print(f"report.html: drawn, searched, sorted, uncovered and printed in {len(LOOKS)} looks; nothing was asked for, and no text acted")


main()
