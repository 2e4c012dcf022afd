"""How the benchmarks print what they found."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table


def show(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> None:
    """Print a table; its first `words` columns are words, the others figures."""
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < words else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
