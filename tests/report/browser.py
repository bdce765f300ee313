"""A page in headless Chromium: what it has drawn, what it complained of, and whether it is wider than the screen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "chrome")
LISTENER = """<script>
window.complaints = [];
window.addEventListener("error", (event) => complaints.push(String(event.message)));
window.addEventListener("unhandledrejection", (event) => complaints.push(String(event.reason)));
for (const kind of ["error", "warn"]) console[kind] = (...said) => complaints.push(said.join(" "));
</script>"""
TELLER = """<script>
setInterval(() => {
  const places = [...document.querySelectorAll(".chart")];
  const drawn = places.filter((place) => place.querySelector("svg.marks path"));
  parent.postMessage({ charts: places.length, drawn: drawn.length, complaints: window.complaints,
    width: window.innerWidth, needed: document.documentElement.scrollWidth,
    dark: matchMedia("(prefers-color-scheme: dark)").matches }, "*");
}, 1000);
</script>"""
# A window is never narrower than 500 pixels, and a frame may be: its width is the page's screen.
FRAMES = """<!doctype html><meta name="color-scheme" content="light dark"><pre id="witness"></pre>
<script>
const seen = {};
addEventListener("message", (event) => {
  seen[event.data.width] = event.data;
  document.getElementById("witness").textContent = JSON.stringify(seen);
});
</script>"""


def found() -> str | None:
    """The browser of this machine, where there is one."""
    return next((path for name in CANDIDATES if (path := shutil.which(name))), None)


def seen(browser: str, page: Path, folder: Path, widths: tuple[int, ...], dark: bool) -> dict[int, dict[str, Any]]:
    """What a browser makes of the page at each width, in a copy with two scripts that listen and tell."""
    told = page.read_text().replace("<style>", f"{LISTENER}<style>", 1)
    # The last one: Vega's script holds the word too.
    before, end, after = told.rpartition("</body>")
    (folder / "watched.html").write_text(before + TELLER + end + after)
    frames = "".join(f'<iframe src="watched.html" width="{w}" height="900" frameborder="0"></iframe>' for w in widths)
    whole = folder / "frames.html"
    whole.write_text(FRAMES + frames)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    # Blink's own numbers for dark and light.
    command += [f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={int(not dark)}"]
    command += ["--window-size=2000,1000", "--virtual-time-budget=4000", "--dump-dom", whole.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900)
    match = re.search(r'id="witness">([^<]+)</pre>', run.stdout)
    if match is None:
        raise RuntimeError(f"{browser} gave no page: {run.stderr[-500:]}")
    return {int(width): each for width, each in json.loads(match.group(1)).items()}
