"""Panels of the dashboards: graphs, figures and tables of Prometheus queries, in one style.

Queries use `$__rate_interval`, so that they fit any scrape interval, and `$datasource`, so that they fit any Grafana.
"""

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
)  # fmt: skip
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)  # fmt: skip
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
WIDTH = 24  # columns of a dashboard


def query(expression: str, legend: str = "__auto", *, instant: bool = False, exemplars: bool = False) -> Any:
    """One query."""
    found = prometheus.Dataquery().expr(expression).legend_format(legend)
    if exemplars:
        found = found.exemplar(True)
    return found.instant().format(PromQueryFormat.TABLE) if instant else found.range()


def graph(title: str, text: str, unit: str, *queries: Any, span: int = 12, bars: bool = False) -> Any:
    """Curves over time; the legend has the last and the highest value."""
    panel = (
        timeseries.Panel().title(title).description(text).unit(unit).span(span).height(8).datasource(SOURCE)
        .fill_opacity(10).line_width(1).min(0).show_points(VisibilityMode.NEVER)
        .legend(VizLegendOptions().display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.BOTTOM).show_legend(True)
                .calcs(["lastNotNull", "max"]))
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )  # fmt: skip
    if bars:
        panel = panel.draw_style(GraphDrawStyle.BARS)
    for reference, each in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(each.ref_id(reference))
    return panel


def figure(title: str, text: str, unit: str, expression: str, *, bad_from: float | None = None, span: int = 4) -> Any:
    """One number with its curve; red from `bad_from` on."""
    steps = [Threshold(value=None, color="green")]
    if bad_from is not None:
        steps.append(Threshold(value=bad_from, color="red"))
    return (
        stat.Panel().title(title).description(text).unit(unit).span(span).height(4).datasource(SOURCE)
        .color_mode(BigValueColorMode.VALUE).graph_mode(BigValueGraphMode.AREA)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(query(expression).ref_id("A"))
    )  # fmt: skip


def rows(
    title: str, text: str, *expressions: str, unit: str = "short", span: int = WIDTH, hidden: Sequence[str] = ("Time",)
) -> Any:
    """A table of the newest values: a row for each series, with its labels as columns."""
    panel = (
        table.Panel().title(title).description(text).unit(unit).span(span).height(9).datasource(SOURCE).filterable(True)
    )
    for reference, expression in zip("ABCDEFGH", expressions, strict=False):
        panel = panel.with_target(query(expression, instant=True).ref_id(reference))
    organise = {"excludeByName": dict.fromkeys((*hidden, "__name__", "job", "instance"), True)}
    return panel.with_transformation(DataTransformerConfig(id_val="merge", options={})).with_transformation(
        DataTransformerConfig(id_val="organize", options=organise)
    )


def board(uid: str, title: str, text: str, *variables: Any) -> Any:
    """A dashboard with its data source, and a link to the others."""
    link = (
        dashboard.DashboardLink("Warren")
        .type(DashboardLinkType.DASHBOARDS)
        .tags(["warren"])
        .as_dropdown(True)
        .keep_time(True)
    )
    found = (
        dashboard.Dashboard(title).uid(uid).description(text).tags(["warren", "ipsec"]).refresh("30s").time("now-6h", "now")
        .timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR).readonly().link(link)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )  # fmt: skip
    for variable in variables:
        found = found.with_variable(variable)
    return found


def choice(name: str, label: str, values: str, *, many: bool = True) -> Any:
    """A variable by a query: `label_values(metric, label)`."""
    found = (
        dashboard.QueryVariable(name).label(label).datasource(SOURCE).query({"query": values, "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC).multi(many).include_all(many)
    )  # fmt: skip
    return found.all_value(".*") if many else found
