"""Writes the page in which `dvc plots show` draws, with Vega's JavaScript inside: DVC's own page asks a web server.

`make` runs it once. In another environment than .venv, run `python -m cola.report.plots_page`.
"""

import subprocess
import sys
from pathlib import Path

import vl_convert

from cola.core import files
from cola.core.errors import run

PAGE = Path(".dvc/plots.html")
# DVC fills what is in braces. It writes the texts of a corpus into scripts as they are: one that has </script> in it
# would become code. Here all that it writes is plain text, to the end of the page, and only its JSON is read.
TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8">{refresh_tag}<title>Plots</title><script>JAVASCRIPT
addEventListener("DOMContentLoaded", () => {
  for (const [, plot] of document.querySelector("plaintext").textContent.matchAll(/^ *var spec = (.*);$/gm))
    vegaEmbed(document.body.appendChild(document.createElement("div")), JSON.parse(plot));
});
</script></head>
<body><plaintext hidden><!--{plot_divs}-->
"""


def main() -> None:
    # Within a page, the end of a script in one of its texts would end the script itself.
    javascript = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    files.write_text(PAGE, TEMPLATE.replace("JAVASCRIPT", javascript))
    # Not in .dvc/config, which git has: where the page is missing, DVC then draws in its own.
    command = ["config", "--quiet", "--local", "plots.html_template", PAGE.name]
    subprocess.run([sys.executable, "-m", "dvc", *command], check=True)


if __name__ == "__main__":
    run(main)
