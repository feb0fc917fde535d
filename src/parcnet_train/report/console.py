"""Where tables are printed."""

from rich.console import Console


def wide_console(width: int) -> Console:
    """A console that rather exceeds a narrow terminal than cuts numbers off.

    Args:
        width: characters that there is room for at least.
    """
    console = Console()
    console.width = max(console.width, width)
    return console
