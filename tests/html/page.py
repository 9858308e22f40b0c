"""Opens the report.html of a run in a real headless Chromium, from disk, and holds it to what it promises.

Usage: python page.py ADPO CHROMIUM [SHOTS], where ADPO is the built program, CHROMIUM the browser, and SHOTS a folder for screenshots. A
small recipe is run on data whose texts try to act as mark-up. Exit status 1 where anything is not as it has to be.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

HOSTILE = "</script><img src=x onerror=\"window.acted=1\"><script>window.acted=1</script> \u202edesrever <!-- {{ {data} \u2028 \x00 &lt;b&gt;"
SHOWN = "</script><img src=x onerror=\"window.acted=1\">"
PROMPTS = 180
RECIPE = """
name = "page </script><img src=x onerror=window.acted=1>"
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


def run(adpo: str, folder: Path) -> Path:
    """The page of a run in which a prompt, a category, the recipe's name and a response try to act."""
    triples = [dict(prompt=f"What about number {i}?", chosen="It is fine.", rejected="No.", toxic="Fool.") for i in range(40)]
    prompts = [dict(prompt=f"Tell me of thing {i}.", category="plain", harmful=i % 10 == 0) for i in range(3 * PROMPTS)]
    prompts += [dict(prompt=f"Number {i}: {HOSTILE}", category=f"{SHOWN} \u202ex", harmful=False) for i in range(12)]
    for name, rows in [("triples", triples), ("prompts", prompts)]:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.toml").write_text(RECIPE)
    command = [adpo, "run", str(folder / "recipe.toml"), "--run-dir", str(folder / "run"), "--data-dir", str(folder)]
    said = subprocess.run(command, check=True, text=True, capture_output=True).stderr
    assert str(folder / "run" / "report.html") in said, said

    # What no tiny model says by itself: as if one had.
    samples, manifest = folder / "run/seed-1/report/samples.jsonl", folder / "run/seed-1/report/manifest.json"
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    rows[0].update(response=f"worst of all {HOSTILE}", toxicity=0.99)
    rows[1].update(response=f"plain as it is {HOSTILE}", toxicity=0.0)
    rows[2] = {key: rows[2][key] for key in ("prompt_id", "prompt", "model", "response")} | {"state": "unparsed", "raw": HOSTILE}
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = json.loads(manifest.read_text())
    made["outputs"]["samples.jsonl"] = hashlib.sha256(samples.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(made))
    again = subprocess.run(command, check=True, text=True, capture_output=True).stderr
    assert "[" not in again.split("the run is in")[0], f"a finished stage was run again: {again}"
    return folder / "run" / "report.html"


def counted(page: Page) -> int:
    return int(re.match(r"\d+", page.locator(".count").inner_text())[0])


def check_whole(page: Page) -> None:
    expect(page.locator("h1")).to_contain_text("2 seeds")
    assert "Result over 2 training seeds" in page.locator(".result").inner_text()
    assert "95" in page.locator("header").inner_text() and "points [" in page.locator("header").inner_text()
    titles = page.locator("figure h3").all_inner_texts()
    for title in ["Does it get less toxic by evading?", "Does it get less toxic by talking nonsense?", "Does it refuse the right prompts?"]:
        assert title in titles, titles
    for title in ["Loss", "Margin, chosen minus rejected", "Log-ratio, chosen", "Log-ratio, rejected", "Log-ratio, toxic", "Learning rate"]:
        assert title in titles, titles
    for drawing in page.locator("figure svg").all():
        assert drawing.get_attribute("aria-label") and drawing.locator("path, circle, rect").count() > 0
        assert "NaN" not in drawing.inner_html()
    # Two seeds of three systems, a mark for each and one for each mean.
    assert page.locator("figure svg").first.locator(".mark").count() == 9
    assert page.locator("table caption").count() == page.locator("table").count()
    unnamed = page.evaluate("[...document.querySelectorAll('input, select')].filter((one) => !one.labels.length).length")
    assert unnamed == 0, f"{unnamed} controls have no label"


def check_table(page: Page) -> None:
    groups, everything = page.locator(".responses tbody"), counted(page)
    assert everything > 60, everything
    assert groups.count() < everything, "rows are made as they are asked for"
    while page.locator("button.more").is_visible():
        page.locator("button.more").click()
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
    assert not set("\u202e\u2028\x00") & set(seen), "what cannot be seen is shown by its number"


def main() -> None:
    adpo, chromium, *shots = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = run(adpo, Path(folder))
        assert os.path.getsize(path) < 3_000_000, os.path.getsize(path)
        # Root may not use Chromium's own sandbox.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        said, asked = [], []
        for name, look in {
            "light": dict(color_scheme="light", viewport=dict(width=1280, height=900)),
            "dark": dict(color_scheme="dark", viewport=dict(width=1280, height=900)),
            "narrow": dict(color_scheme="light", viewport=dict(width=390, height=844)),
        }.items():
            page = browser.new_page(**look)
            page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
            page.on("request", lambda request: asked.append(request.url))
            page.route("**", lambda route: route.continue_() if route.request.url == path.as_uri() else route.abort())
            page.goto(path.as_uri())
            check_inert(page)
            check_whole(page)
            if shots:
                page.screenshot(path=Path(shots[0], f"{name}.png"), full_page=True)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{name}: the page is {wide} pixels too wide"
            check_table(page)
            check_cover(page)
            check_inert(page)
            page.emulate_media(media="print")
            assert not page.locator(".controls").is_visible() and page.locator("figure svg").first.is_visible()
            page.close()
        browser.close()
        assert not said, said
        assert asked == [path.as_uri()] * 3, asked
    print("report.html: drawn, searched, sorted and uncovered in three looks; nothing was asked for, and no text acted")


main()
