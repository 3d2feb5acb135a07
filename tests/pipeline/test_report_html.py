from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.report import BuildReport
from edgekit.pipeline.report import charts, html, index
from edgekit.pipeline.report.markup import Markup, tag
from tests.pipeline import sample_reports

VOID = {"meta", "br", "line", "path", "rect", "circle"}
SAMPLES = [sample_reports.emulated, sample_reports.measured, sample_reports.hostile]


class Page(HTMLParser):
    """Collect what a page holds, and refuse tags that do not close."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(report: BuildReport) -> Page:
    page = Page(html.render(report))
    assert page.open == []
    return page


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_tag_is_closed_in_order(sample: type[BuildReport]) -> None:
    assert read(sample()).tags


@pytest.mark.parametrize("sample", SAMPLES)
def test_nothing_is_loaded_and_nothing_runs(sample: type[BuildReport]) -> None:
    page = read(sample())
    names = {name for name, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    for _, attributes in page.tags:
        assert not attributes.keys() & {"src", "srcset", "href", "action", "background"}
        assert not any(name.startswith("on") for name in attributes)
    content = html.render(sample())
    assert "url(" not in content
    assert "@import" not in content
    assert not re.search(r"https?:|//[a-z]", content)


def test_hostile_names_stay_text() -> None:
    page = read(sample_reports.hostile())
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert "\x1b" not in html.render(sample_reports.hostile())
    assert "\u202e" not in html.render(sample_reports.hostile())


@given(st.text(st.characters(), max_size=40))
def test_any_text_stays_text(text: str) -> None:
    page = Page(tag("p", tag("b", text, title=text)))
    assert [name for name, _ in page.tags] == ["p", "b"]
    # Line ends become spaces and control characters a sign; nothing is lost or added.
    assert len("".join(page.text)) == len(text)
    assert len(page.of("b")[0]["title"] or "") == len(text)


def test_only_markup_is_taken_as_markup() -> None:
    assert tag("p", "<b>") == "<p>&lt;b&gt;</p>"
    assert tag("p", Markup("<b></b>")) == "<p><b></b></p>"


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_chart_has_a_title_a_description_and_a_table(sample: type[BuildReport]) -> None:
    page = read(sample())
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for chart in page.of("svg"):
        assert chart["role"] == "img"
        assert set((chart["aria-labelledby"] or "").split()) <= set(ids)
    assert len(page.of("svg")) == len(page.of("figure")) == len(page.of("figcaption"))
    assert len(page.of("svg")) <= len(page.of("table"))


def test_charts_are_accuracy_size_work_and_the_race() -> None:
    page = read(sample_reports.emulated())
    names = [(chart["aria-labelledby"] or "").split("-title")[0] for chart in page.of("svg")]
    assert names == ["accuracy", "size", "macs", "params", "race", "engine-size"]


def test_an_emulated_page_labels_its_figures_and_shows_no_latency() -> None:
    timed = sample_reports.measured().engines
    report = msgspec.structs.replace(sample_reports.emulated(), engines=timed)
    text = " ".join(read(report).text)
    assert "emulated device: no timings" in text
    assert "0.148 ms" not in text
    instructions = " ".join(read(sample_reports.emulated()).text)
    assert "Executed instructions by engine, emulated" in instructions
    assert "emulated: no timing" in instructions


def test_a_measured_page_shows_latency_and_its_budget() -> None:
    text = " ".join(read(sample_reports.measured()).text)
    assert "Latency by engine" in text
    assert "budget 0.100 ms" in text
    assert "0.0631 ms" in text


def test_the_accuracy_chart_draws_the_tightest_budget() -> None:
    # A drop of 0.01 from 0.9611 is stricter than the floor of 0.95.
    assert "budget 0.9511" in html.render(sample_reports.measured())


def test_the_page_is_the_same_each_time() -> None:
    assert html.render(sample_reports.emulated()) == html.render(sample_reports.emulated())


def test_a_report_with_nothing_in_it_is_a_page() -> None:
    page = read(BuildReport(recipe="r", target="t", stages=()))
    assert not page.of("svg")


def test_the_index_links_every_report() -> None:
    reports = [sample_reports.emulated(), sample_reports.measured()]
    page = Page(index.render(reports))
    links = [attributes["href"] for attributes in page.of("a")]
    assert links == ["./rpi4/report.html", "./x86-64-v4-vnni/report.html"]


def test_the_index_of_hostile_targets_links_inside_its_folder() -> None:
    hostile = msgspec.structs.replace(sample_reports.emulated(), target="javascript:x/../y?#")
    page = Page(index.render([hostile, sample_reports.hostile()]))
    assert page.open == []
    assert page.of("a")[0]["href"] == "./javascript%3Ax%2F..%2Fy%3F%23/report.html"


finite = st.floats(1e-9, 1e12)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_round_ticks_enclose_their_range(low: float, width: float, num: int) -> None:
    ticks = charts.nice_ticks(low, low + width, num)
    slack = 1e-6 * max(abs(low), width)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + width - slack
    assert 2 <= len(ticks) <= 2 * num + 2


@given(finite, st.floats(1, 1e9), st.sampled_from([1000.0, 1024.0]))
def test_logarithmic_ticks_enclose_their_range(low: float, factor: float, base: float) -> None:
    high = min(low * factor, 1e18)
    ticks = charts.log_ticks(low, high, base)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert len(ticks) >= 2


@given(
    st.lists(finite, min_size=1, max_size=8),
    st.sampled_from([("dots", "linear"), ("bars", "linear"), ("dots", "log")]),
    st.none() | finite,
)
def test_any_chart_stays_inside_its_drawing(
    values: list[float], look: tuple[charts.Style, charts.Scale], limit: float | None
) -> None:
    marks = tuple(
        charts.Mark(label=f"stage-{number}", value=value, text="12.3 KiB")
        for number, value in enumerate(values)
    )
    chart = charts.Chart(
        name="c",
        title="t",
        description="d",
        axis="a",
        marks=marks,
        style=look[0],
        scale=look[1],
        tick=str,
        limit=None if limit is None else charts.Limit(limit, "budget 1"),
    )
    page = Page(charts.draw(chart))
    width, height = map(float, (page.of("svg")[0]["viewbox"] or "").split()[2:])
    for attributes in (*page.of("circle"), *page.of("line"), *page.of("text")):
        for name, value in attributes.items():
            if name in {"x", "x1", "x2", "cx"}:
                assert -0.5 <= float(value or 0) <= width + 0.5
            if name in {"y", "y1", "y2", "cy"}:
                assert 0 <= float(value or 0) <= height
