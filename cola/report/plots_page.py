"""Writes the page in which `dvc plots show` draws, with Vega's JavaScript inside: DVC's own page asks a web server.

`make` runs it as it sets up .venv; .dvc/config names the page.
"""

from pathlib import Path

import jinja2
import vl_convert

from cola.core import files
from cola.core.errors import run

PAGE = Path(".venv/plots.html")
TEMPLATE = Path(__file__).with_name("templates") / "plots.html"  # in which {refresh_tag} and {plot_divs} are for DVC


def main() -> None:
    # Within a page, the end of a script in one of its texts would end the script itself.
    javascript = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    template = jinja2.Template(TEMPLATE.read_text(encoding="utf-8"), keep_trailing_newline=True)
    files.write_text(PAGE, template.render(javascript=javascript))


if __name__ == "__main__":
    run(main)
