"""Pages in a headless Chromium: what a script finds in them at some width."""

import html
import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# A page in a frame of a chosen width; the script sees its window as `page`.
FRAME = """<!doctype html><meta charset="utf-8"><iframe id="frame" src="{url}"
style="width:{width}px;height:3000px;border:0"></iframe><pre id="found"></pre><script>
document.getElementById("frame").onload = event => {{
  const page = event.target.contentWindow;
  const find = {script};
  document.getElementById("found").textContent = "FOUND" + JSON.stringify(find(page)) + "END";
}};
</script>"""


def browse(path, folder, script, width=1280, dark=False):
    """Return what a script finds in a page, and the messages of the browser's console.

    Args:
        path: HTML file.
        folder: Folder for the frame.
        script: JavaScript function of the page's window.
        width: Width of the page in pixels.
        dark: Whether the page is shown in dark colors.
    """
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(url=path.as_uri(), width=width, script=script))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--allow-file-access-from-files", "--enable-logging=stderr"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run([*command, frame.as_uri()], capture_output=True, text=True, timeout=300)
    found = re.search("FOUND(.*?)END<", done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), console


OVERFLOW = """page => ({
  scroll: page.document.documentElement.scrollWidth, width: page.innerWidth})"""

# Text whose contrast with the ground is too low (WCAG 2: 4.5, or 3 for large text).
CONTRAST = """page => {
  const parse = text => text.match(/[0-9.]+/g).map(Number);
  const luminance = color => color.slice(0, 3).map(each => each / 255).map(each =>
    each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4
  ).reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const color = parse(page.getComputedStyle(element).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const element of page.document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some(each => each.nodeType === 3 && each.data.trim());
    if (!own || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = page.getComputedStyle(element);
    const color = element.tagName === "text" ? style.fill : style.color;
    const [one, other] = [luminance(parse(color)), luminance(ground(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) low.push([element.tagName, element.textContent.slice(0, 30), contrast]);
  }
  return low;
}"""

# What the keyboard reaches, in its order, and its place in the page from the top.
FOCUS = """page => {
  const every = [...page.document.querySelectorAll("a[href], button, input, summary, [tabindex]")];
  return every.map(each => [each.tabIndex, each.getBoundingClientRect().top]);
}"""

SORT = """page => {
  const table = page.document.getElementById("table");
  const column = [...table.tHead.rows[0].cells].findIndex(
    each => each.textContent.trim() === "mean, %");
  const values = () => [...table.tBodies[0].rows].filter(each => !each.hidden).map(
    each => each.cells[column].textContent);
  const button = table.tHead.rows[0].cells[column].querySelector("button");
  button.click();
  const rising = values();
  button.click();
  const falling = values();
  const filter = page.document.getElementById("filter");
  filter.value = "ROW7";
  filter.dispatchEvent(new Event("input"));
  return {rising, falling, filtered: values(),
    count: page.document.getElementById("count").textContent};
}"""
