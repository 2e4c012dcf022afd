"""The page in which DVC draws has its JavaScript inside."""

import re

from cola.report import plots_page


def test_the_page_asks_no_server_and_has_the_places_that_dvc_fills(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plots_page.main()
    text = plots_page.PAGE.read_text(encoding="utf-8")
    assert text.count("{plot_divs}") == text.count("{refresh_tag}") == 1  # as DVC's template has them
    assert text.count("<script>") == text.count("</script>") == 1, "a text of the JavaScript ends it"
    script = text[text.index("<script>") : text.index("</script>")]
    assert "window.vegaEmbed" in script
    assert len(script) > 100_000
    assert not re.search(r"src=|href=|@import", text.replace(script, ""))
    assert text.endswith("</html>\n")
