"""DVC's page has its JavaScript inside and takes no text for code."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from cola.core import files

EVIL = "</script><script>document.title = 'evil'</script><img src=x onerror=\"document.title = 'evil'\"></plaintext>"


@pytest.mark.slow
def test_every_plot_is_drawn_without_a_request_and_no_text_becomes_code(applied, run):
    run(applied, "python", "-m", "cola.report.plots_page")
    for name, column in (("predictions", "label"), ("per_source", "source")):
        table = files.read_csv(applied / f"metrics/{name}.csv")
        table.loc[0, column] = EVIL
        files.write_csv(applied / f"metrics/{name}.csv", table)
    run(applied, "dvc", "plots", "show")
    index = applied / "dvc_plots/index.html"
    text = index.read_text()
    script = text[text.index("<script>") : text.index("</script>")]
    assert "window.vegaEmbed" in script
    assert not re.search(r"src=.?http|href=|@import", text.replace(script, "").replace(EVIL, "")), "it makes a request"
    assert text.count("vegaEmbed('#") == 7
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: tags.append(tag)
    parser.feed(text)
    assert tags == ["html", "head", "meta", "title", "script", "body", "plaintext"]
    if not (chromium := shutil.which("chromium")):
        pytest.skip("the rest needs chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run(
        [chromium, *options, index.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    assert "<title>Plots</title>" in shown.stdout
    assert shown.stdout.count("vega-embed") >= 7
