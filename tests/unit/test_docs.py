"""What the documents say is what the committed results say."""

import json
from pathlib import Path

import pytest

import reliability
import rivals_page
import summary
from nacs.experiments.page import page

ROOT = Path(__file__).resolve().parents[2]
RESULT = json.loads((ROOT / "docs" / "results" / "demo.json").read_text())


def shown(spread):
    mean, deviation = (100 * spread[key] for key in ("mean", "deviation"))
    return f"{mean:.1f} ± {deviation:.1f}"


@pytest.mark.parametrize("document", ["README.md", "docs/LOG.md"])
@pytest.mark.parametrize("model", ["attentive circuit", "Perceiver IO"])
def test_the_demo_table_is_that_of_the_results(document, model):
    figures = RESULT[model]
    row = f"| {model} | {shown(figures['test_accuracy'])} "
    row += f"| {shown(figures['dropped_80_accuracy'])} |"
    assert row in (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("task", ["noisy-sensors", "associative-recall", "integral"])
def test_the_tables_of_rivals_are_those_of_the_results(task):
    text = (ROOT / "docs" / "LOG.md").read_text(encoding="utf-8")
    models = json.loads((ROOT / "docs" / "results" / f"{task}.json").read_text())[
        "models"
    ]
    assert len(models) > 8
    for name, figures in models.items():
        spread = next(v for k, v in figures.items() if k.startswith("test_"))
        row = f"| {name} | {spread['mean']:.3f} ± {spread['deviation']:.3f} |"
        assert row in text, row


def test_the_returns_are_those_of_the_results():
    found = json.loads((ROOT / "docs" / "results" / "car-racing.json").read_text())
    log = (ROOT / "docs" / "LOG.md").read_text(encoding="utf-8")
    for name, driver in found["models"].items():
        figures = driver["return"]
        row = f"| {name} | {figures['mean']:.1f} ± {figures['deviation']:.1f} "
        assert f"{row}| {figures['worst']:.1f} |" in log
    assert f"| {found['teacher mean']:.1f} |" in log
    figures = found["models"]["neuronal"]["return"]
    mean, deviation = figures["mean"], figures["deviation"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"mean return {mean:.0f} ± {deviation:.1f} over three seeds" in readme


def test_pictures_of_the_readme_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = [part.split(")")[0] for part in text.split("](")[1:]]
    for path in pictures:
        if not path.startswith("http"):
            assert (ROOT / path).exists(), path


def test_the_page_of_rivals_is_that_of_the_results():
    assert rivals_page.page() == rivals_page.PAGE.read_text(encoding="utf-8")


def test_the_page_of_reliability_is_that_of_the_results():
    assert reliability.page() == reliability.PAGE.read_text(encoding="utf-8")
    kills, fuzz = reliability.read("kills"), reliability.read("fuzz")
    assert kills["same"] == len(kills["kills"]) == 20
    assert fuzz["inputs"] >= 100_000
    assert fuzz["crashes"] == 0


def test_the_page_of_benchmarks_is_that_of_the_results():
    headline, page = summary.summary()
    assert page == summary.PAGE.read_text(encoding="utf-8")
    written = json.loads((summary.RESULTS / "headline.json").read_text())
    assert written == {"headline": headline}
    assert set(headline) == set(summary.HEADLINE)


def test_the_page_of_results_is_what_its_figures_say():
    written = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert written == page(ROOT / "docs" / "results")
