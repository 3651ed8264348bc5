"""Tables and numbers as the subcommands print them."""


def counted(count: int, noun: str) -> str:
    """ "1 file", "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def number(value: float | None, digits: int = 4) -> str:
    """So many significant digits; a dash where there is no figure."""
    return "-" if value is None else f"{value:.{digits}g}"


def table(rows: list[list[str]]) -> str:
    """Columns padded to their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
