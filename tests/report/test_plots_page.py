"""DVC's page has its JavaScript inside and takes no text for code."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from dvc.repo import Repo

from cola.core import files
from cola.report import plots_page

EVIL = "</script><script>document.title = 'evil'</script><img src=x onerror=\"document.title = 'evil'\"></plaintext>"


@pytest.mark.slow
def test_the_page_makes_no_request_and_has_the_braces_that_dvc_fills(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    plots_page.main()
    text = plots_page.PAGE.read_text(encoding="utf-8")
    assert text.count("{plot_divs}") == text.count("{refresh_tag}") == 1  # as DVC's template has them
    assert text.count("<script>") == text.count("</script>") == 1, "a text of the JavaScript ends it"
    script = text[text.index("<script>") : text.index("</script>")]
    assert "window.vegaEmbed" in script
    assert len(script) > 100_000
    assert not re.search(r"src=|href=|@import", text.replace(script, ""))


@pytest.mark.slow
def test_a_text_of_the_corpus_is_drawn_and_does_not_become_code(applied, run):
    run(applied, "python", "-m", "cola.report.plots_page")
    for name, column in (("predictions", "label"), ("per_source", "source")):
        table = files.read_csv(applied / f"metrics/{name}.csv")
        table.loc[0, column] = EVIL
        files.write_csv(applied / f"metrics/{name}.csv", table)
    run(applied, "dvc", "plots", "show")
    index = applied / "dvc_plots/index.html"
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: tags.append(tag)
    parser.feed(index.read_text())
    assert tags == ["html", "head", "meta", "title", "script", "body", "plaintext"]
    if not (chromium := shutil.which("chromium")):
        pytest.skip("the rest needs chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run(
        [chromium, *options, index.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    assert "<title>Plots</title>" in shown.stdout
    assert shown.stdout.count("vega-embed") >= 7
