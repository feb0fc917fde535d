"""`action=watch`: all runs below a folder, in a live table or on a local page."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.measure import Measurement

from parcnet_train.actions.watch.server import HOST, Site
from parcnet_train.actions.watch.states import Watcher
from parcnet_train.actions.watch.table import table_of
from parcnet_train.config.action_sections import Report, Watch
from parcnet_train.config.typed import section
from parcnet_train.report.collected import folders_of

SECONDS = 2.0  # between two looks at the runs


def watch(config: dict[str, Any]) -> dict[str, Any]:
    """Show all runs below `report.runs` until Ctrl-C; outside a terminal, print them once.

    Args:
        config: The whole configuration as plain values; its data and its network are not looked at.

    Returns:
        `action`, its name.

    Raises:
        ConfigError: If the port of the page cannot be used.
    """
    settings = section(Watch, config)
    watcher = Watcher(folders_of(section(Report, config).runs))
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        if settings.web:
            serve(watcher, settings.port)
        else:
            show(watcher, Console())
    return {"action": config["action"]}


def show(watcher: Watcher, console: Console) -> None:
    """Show a live table; outside a terminal, print it once."""
    if not console.is_terminal:
        table = table_of(watcher.read(), watcher.top, console)
        widest = console.options.update(max_width=10_000)
        console.width = max(console.width, Measurement.get(console, widest, table).maximum)
        console.print(table)
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            table = table_of(watcher.read(), watcher.top, console, console.height)
            live.update(table, refresh=True)
            time.sleep(SECONDS)


def serve(watcher: Watcher, port: int) -> None:
    """Serve the page of all runs, and print its address.

    Raises:
        ConfigError: If the port cannot be used.
    """
    with Site(watcher, port) as site:
        address = f"http://{HOST}:{site.server_address[1]}/"
        print(f"{address} shows the runs below {watcher.top}. Ctrl-C ends it.", flush=True)
        site.serve_forever()
