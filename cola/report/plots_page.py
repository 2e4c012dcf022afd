"""Writes the page in which `dvc plots show` draws. It has Vega's JavaScript inside; DVC's own page asks a web server.

`make` runs it once. Outside .venv, run `python -m cola.report.plots_page`.
"""

import subprocess
import sys
from pathlib import Path

import vl_convert

from cola.core import files
from cola.core.errors import run

PAGE = Path(".dvc/plots.html")
# DVC fills the braces. It does not escape a corpus's texts, so </script> in a sentence would start code. In this
# page everything after <plaintext> is text, and the script reads the JSON in it.
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
    # </script> in a text of the JavaScript would end the script.
    javascript = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    # The local configuration is not in git: a clone without the page draws in DVC's own.
    command = ["config", "--quiet", "--local", "plots.html_template", PAGE.name]
    subprocess.run([sys.executable, "-m", "dvc", *command], check=True)
    files.write_text(PAGE, TEMPLATE.replace("JAVASCRIPT", javascript))  # last: `make` looks for it


if __name__ == "__main__":
    run(main)
