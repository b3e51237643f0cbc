"""The screen of `warren top` (textual). A thread keeps the copy of the tunnels current; the screen only shows it."""

from collections import Counter
from datetime import UTC, datetime
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, Static
from textual.worker import get_current_worker

from warren_cli.errors import CliError
from warren_cli.remote.client import ApiUnavailableError
from warren_cli.remote.live_tunnels import REFRESH_S, ChangeWatch, LiveTunnels
from warren_cli.remote.render import styled
from warren_cli.remote.tunnel_rows import COLUMNS, WORST_FIRST, ShownTunnel, cells, ordered, row_of
from warren_contracts.tunnel_query import InvalidQueryError, TunnelQuery

TICK_S = 1.0  # ages are shown in seconds
SHOWN = 500  # rows: the worst come first
LOST_AFTER_S = REFRESH_S + 15.0  # without an answer of the API server, which is asked at least every REFRESH_S
NOT_CONNECTED = "not connected"
SORTS = ("state,since", "name", "since", "in", "out", "restarts")


class FleetTop(App[None]):
    """The tunnels of `live`, in the order of `sort`. `failure`: why it ended, if not by a key."""

    TITLE = "warren top"
    CSS = "#summary { height: 1; } #filter { display: none; } #filter.shown { display: block; } DataTable { height: 1fr; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Order"),
        Binding("escape", "hide_filter", show=False),
    ]

    def __init__(self, live: LiveTunnels, changes: ChangeWatch, sort: str) -> None:
        super().__init__()
        self._live = live
        self._changes = changes
        self._sort = sort
        self._problem = ""  # with the filter
        self._is_lost = False  # the API server cannot be reached: no state is shown, whatever it was
        self.failure: CliError | None = None

    def compose(self) -> ComposeResult:
        """A line of counts, the filter while it is edited, the table, and the keys."""
        yield Static(id="summary")
        yield Input(self._live.query.text, placeholder="state:down tag:branch age:>1h -policy:lab", id="filter")
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Show what is known, and follow the changes."""
        table = self._table
        for column in COLUMNS:
            table.add_column(column, key=column)
        table.focus()
        self.show()
        self.set_interval(TICK_S, self._watch_silence)
        self._changes.start()
        self.run_worker(self._follow, thread=True, exclusive=True)

    def action_filter(self) -> None:
        """Edit the filter."""
        field = self.query_one("#filter", Input)
        field.add_class("shown")
        field.focus()

    def action_hide_filter(self) -> None:
        """Leave the filter as it was."""
        self.query_one("#filter", Input).remove_class("shown")
        self._table.focus()

    def action_sort(self) -> None:
        """Take the next order."""
        at = SORTS.index(self._sort) if self._sort in SORTS else -1
        self._sort = SORTS[(at + 1) % len(SORTS)]
        self.show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the filter, unless it is invalid."""
        try:
            self._live.query = TunnelQuery(event.value)
        except InvalidQueryError as error:
            self._problem = str(error)
        else:
            self._problem = ""
            self.action_hide_filter()
            self._changes.wake()
        self.show()

    def show(self) -> None:
        """Draw everything as of now."""
        now = datetime.now(UTC)
        rows = ordered([row_of(tunnel, now) for tunnel in self._live.matching(now)], self._sort)
        table, cursor = self._table, self._table.cursor_row
        table.clear()
        for row in rows[:SHOWN]:
            name, state, *others = cells(row, now)
            shown = (name, NOT_CONNECTED if self._is_lost else state, *others)
            table.add_row(*map(styled, shown), key=row.tunnel.name)
        if rows:
            table.move_cursor(row=min(cursor, len(rows[:SHOWN]) - 1))
        self.query_one("#summary", Static).update(self._summary(rows))

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one(DataTable)

    def _summary(self, rows: list[ShownTunnel]) -> Text:
        if self._is_lost:
            said = (
                f"not connected to the API server: no state is known; the rest is as of {self._live.since_s:.0f} s ago"
            )
            return Text(said, style="bold red", no_wrap=True)
        counts = Counter(row.tunnel.state for row in rows)
        said = ", ".join(f"{counts[state]} {state.value}" for state in WORST_FIRST if counts[state]) or "no tunnels"
        beyond = f", the first {SHOWN} are shown" if len(rows) > SHOWN else ""
        if self._problem:
            return Text(f"{self._problem} | {said}", style="bold red", no_wrap=True)
        return Text(f"{said}{beyond}; order: {self._sort}; filter: {self._live.query.text or 'none'}", no_wrap=True)

    def _follow(self) -> None:
        worker = get_current_worker()
        while not worker.is_cancelled:
            try:
                self._live.update(self._changes.wait(TICK_S))
                is_lost = False
            except ApiUnavailableError:
                is_lost = True
                self._changes.pause(TICK_S)
            except CliError as error:
                self.failure = error
                if not worker.is_cancelled:
                    self.call_from_thread(self.exit)
                return
            if not worker.is_cancelled:
                self.call_from_thread(self._redraw, is_lost)

    def _redraw(self, is_lost: bool) -> None:
        self._is_lost = is_lost
        if not self.query_one("#filter", Input).has_class("shown"):
            self._problem = ""
        self.show()

    def _watch_silence(self) -> None:
        """An API server that hangs keeps the thread waiting, which says nothing meanwhile."""
        if self._live.silent_s > LOST_AFTER_S:
            self._redraw(is_lost=True)
