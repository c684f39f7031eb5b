# SPDX-License-Identifier: Apache-2.0
"""The page in Chromium, on a desk and on a phone: nothing loaded, nothing cut, all pictures shown.

Both widths are frames of one document, which looks into them: one browser starts.
"""

import json
import os
import re
import shutil

import pytest

from tests.helpers.commands import run_command
from tests.tools.reporting.results import PICTURES, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
WIDTHS = (1280, 400)

# In a frame: what is wider than it should be, which pictures are drawn, what was asked for.
LOOK = """
const page = PAGE, widths = WIDTHS, found = {};
for (const width of widths) {
    const frame = document.createElement("iframe");
    frame.style = `border: 0; height: 800px; width: ${width}px`;
    frame.srcdoc = page;
    frame.onload = () => {
        const inside = frame.contentWindow, root = inside.document.documentElement;
        const name = each => each.tagName + "." + each.className + " " +
            each.textContent.trim().slice(0, 40);
        const all = [...inside.document.body.querySelectorAll("*")];
        const scrolling = all.filter(each => each.closest(".scroll") === each);
        found[width] = {
            inner: inside.innerWidth,
            wider: root.scrollWidth - root.clientWidth,
            outside: all.filter(each => !each.parentElement.closest(".scroll") &&
                each.getBoundingClientRect().right > inside.innerWidth + 0.5).map(name),
            cut: all.filter(each => each.scrollWidth > each.clientWidth + 1 && each.clientWidth &&
                !["auto", "scroll", "visible"].includes(inside.getComputedStyle(each).overflowX)
                ).map(name),
            stuck: scrolling.filter(each =>
                inside.getComputedStyle(each).overflowX !== "auto").map(name),
            scrolled: scrolling.filter(each => each.scrollWidth > each.clientWidth + 1).length,
            pictures: [...inside.document.images].filter(image => image.naturalWidth > 100 &&
                image.getBoundingClientRect().width > 200).length,
            asked: inside.performance.getEntriesByType("resource").map(entry => entry.name)
                .filter(asked => !asked.startsWith("data:")),
            summary: inside.document.querySelector("#summary table").getBoundingClientRect().top,
        };
        if (Object.keys(found).length === widths.length)
            document.body.textContent = JSON.stringify(found);
    };
    document.body.append(frame);
}
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_desk_and_phone_show_all_of_it_and_ask_for_nothing(run, tmp_path):
    # Words and paths that no line holds.
    content = json.loads((run / "deep" / "e2.json").read_text())
    content["label"] = "w" * 90
    (run / "long.json").write_text(json.dumps(content | {"model": "/" + "path/" * 40}))
    page = report(run)
    script = LOOK.replace("PAGE", json.dumps(page).replace("</", "<\\/"))
    script = script.replace("WIDTHS", json.dumps(WIDTHS))
    harness = tmp_path / "harness.html"
    harness.write_text(f"<!DOCTYPE html><meta charset='utf-8'><body><script>{script}</script>")
    command = [CHROMIUM, "--headless", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-quic"]
    command += ["--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--no-sandbox"] * (os.geteuid() == 0)
    shown = run_command(*command, "--dump-dom", harness.as_uri()).stdout
    seen = json.loads(re.search(r"<body>(\{.*\})</body>", shown, flags=re.DOTALL)[1])
    for width in WIDTHS:
        found = seen[str(width)]
        assert found["inner"] == width
        assert found["wider"] <= 0
        assert (found["outside"], found["cut"], found["stuck"]) == ([], [], [])
        assert found["pictures"] == PICTURES
        assert found["asked"] == []
        assert found["summary"] < 400  # of the 800 pixels of the first screen
    assert seen["400"]["scrolled"] > 0  # wide tables scroll in their boxes
