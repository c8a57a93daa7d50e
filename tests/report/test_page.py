"""The report as a person meets it: a real sweep's page in a real browser, and the same from MLflow alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from runner.report import page as pages
from runner.report import subject
from tests.browser import Browser
from tests.conftest import TINY, run_command
from tests.damage.written import a_run

#: Two runs that finish, and one that diverges.
SWEEP = [*TINY[1:3], "deploy.bench_s=0.01", "data.limit=200", "data.batch_size=16", "train.epochs=2",
         "train.log_every=2", "schedule=constant", "optimizer=sgd", "-m", "optimizer.lr=0.05,0.005,1e30", "name=tried",
         "hydra.sweep.dir=sweep"]  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a sweep in `sweep` and its store in `outputs`."""
    folder = tmp_path_factory.mktemp("swept")
    done = run_command(*SWEEP, cwd=folder)
    assert done.returncode == 4, done.stderr + done.stdout
    assert "Report   sweep/report.html" in done.stdout
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not shutil.which("chromium"):
        pytest.skip("needs Chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(browser, swept):
    """The sweep's page, opened from the disk in a window of a desktop's width."""
    browser.open((swept / "sweep" / "report.html").as_uri(), 1280, 900, 1)
    browser.run("while (document.readyState !== 'complete') await new Promise((done) => setTimeout(done, 20))")
    return browser


def results(folder):
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]
    assert len(found) == 2
    return found


def column(page, heading):
    """The numbers of the table's column from top to bottom; None where a run has none."""
    return page.run(f"""
        const heading = [...document.querySelectorAll("#runs th")].find((one) => one.textContent.trim() === "{heading}")
        return [...document.querySelectorAll("#runs tbody tr")].map((row) => {{
            const value = row.cells[heading.cellIndex]?.dataset.value
            return value ? Number(value) : null
        }})""")


def click(page, text):
    page.run(f"""
        const found = [...document.querySelectorAll("button")].find((one) => one.textContent.trim() === "{text}")
        found.click()""")


def test_it_opens_from_the_disk_without_a_network_and_without_a_failure(page):
    assert page.run("return document.querySelectorAll('svg.chart').length") >= 5
    assert page.asked == []
    assert page.failures == []


def test_the_winner_is_the_best_validated_run_with_the_command_that_trains_it_again(page, swept):
    best = max(results(swept / "sweep"), key=lambda result: result["best"])
    winner = page.run("return document.querySelector('#winner').innerText")
    assert f"val/student/top1 is {best['best']:.4f}, the highest of 2 finished runs" in winner
    assert f"{best['final']['top1']:.4f} ±" in winner
    assert re.search(r"python -m runner .*optimizer.lr=0.0\d+", winner)


def test_a_click_on_a_heading_sorts_and_another_one_turns_it_round(page, swept):
    wanted = sorted(result["final"]["top1"] for result in results(swept / "sweep"))
    click(page, "top-1")
    assert column(page, "top-1") == [*reversed(wanted), None]
    click(page, "top-1")
    assert column(page, "top-1") == [*wanted, None]
    assert page.run("return document.querySelector('[aria-sort]').ariaSort") == "ascending"


def test_the_button_switches_between_light_and_dark(page):
    colors = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
    before = page.run(colors)
    click(page, "light / dark")
    after = page.run(colors)
    assert before == after[::-1] or (before[0] != after[0] and before[1] != after[1])
    click(page, "light / dark")
    assert page.run(colors) == before


def test_pointing_at_a_run_sets_the_others_back(page):
    page.run("""document.querySelector("#runs tr[data-run='1']").dispatchEvent(new PointerEvent("pointerenter"))""")
    shown = page.run("""
        const lines = [...document.querySelectorAll(".chart .line[data-run]")]
        return lines.map((one) => [one.dataset.run, getComputedStyle(one).opacity])""")
    assert {opacity for run, opacity in shown if run == "1"} == {"1"}
    assert all(float(opacity) < 0.5 for run, opacity in shown if run != "1")


def test_a_failed_job_is_there_with_its_reason_and_command(page):
    failed = page.run("return document.querySelector('#failed').innerText")
    assert "FAILED" in failed
    assert "not finite" in failed or "nan" in failed or "inf" in failed
    assert "optimizer.lr=1e+30" in failed or "optimizer.lr=1e30" in failed


def test_every_run_has_a_learning_curve_and_the_mistakes_have_their_images(page, swept):
    lines = page.run(
        "return [...document.querySelectorAll('.chart')].map((one) => one.querySelectorAll('.line[data-run]').length)"
    )
    assert [count for count in lines if count] == [2, 2, 2]
    best = max((swept / "sweep").glob("*/result.json"), key=lambda path: json.loads(path.read_text())["best"])
    kept = json.loads((best.parent / "mistakes.json").read_text())
    sizes = page.run("return [...document.querySelectorAll('.mistakes img')].map((one) => one.naturalWidth)")
    assert sizes == [32] * min(24, kept["wrong"])
    assert sizes


def test_a_phone_shows_it_without_scrolling_sideways(page, swept):
    page.open((swept / "sweep" / "report.html").as_uri(), 390, 800, 1)
    page.run("await new Promise((done) => setTimeout(done, 300))")
    assert page.run("return document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(("count", "width"), [(3, 390), (10, 1280), (20, 1280), (21, 1280)])
def test_the_whole_confusion_matrix_is_seen_whatever_the_classes_are_called(browser, config_of, tmp_path, count, width):
    run = a_run(tmp_path, config_of())
    names = [f"class {number}: {'with a long name ' * (number % 4)}" for number in range(count)]
    part = {"top1": [0.5] * count, "confusion": [[1234] * count] * count}
    (run / "per_class.json").write_text(json.dumps({"classes": names, "student": part}))
    pages.write([subject.read(run, "1", "run")], "run", "python -m runner report", "", tmp_path / "page.html")
    browser.open((tmp_path / "page.html").as_uri(), width, 900, 1)
    browser.run("while (document.readyState !== 'complete') await new Promise((done) => setTimeout(done, 20))")
    shown, cards = browser.run("""
        const box = (one) => [one.getBoundingClientRect().left, one.getBoundingClientRect().right]
        const shown = [...document.querySelectorAll(".confusion, .confusion th span, .heat")]
        return [shown.map(box), shown.map((one) => box(one.closest(".card")))]""")
    assert shown
    assert all(card[0] <= one[0] and one[1] <= card[1] for one, card in zip(shown, cards, strict=True))
    cut = """return [...document.querySelectorAll(".confusion th, .confusion th span")].filter((one) =>
        one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1).length"""
    assert browser.run(cut) == 0


def test_every_table_has_room_between_its_headings_and_scrolls_in_its_card(browser, tmp_path):
    """A table of no name, as the next one is, one whose headings are buttons, and a confusion matrix."""
    words = [f"a heading of several words, number {number}" for number in range(9)]

    def table(name, heading):
        cells = "".join(f"<td>{'x' * 40}</td>" for _ in words)
        head = f"<thead><tr>{''.join(map(heading, words))}</tr></thead>"
        return f"<table {name}>{head}<tbody><tr>{cells}</tr></tbody></table>"

    tables = [
        table("id=plain", "<th scope=col>{}</th>".format),
        table("id=sorted", "<th scope=col><button>{}</button></th>".format),
        table("class=confusion", "<th scope=col><span>{}</span></th>".format),
    ]
    cards = "".join(f"<div class='card wide'><h3>name</h3>{one}</div>" for one in tables)
    style = (Path(pages.__file__).parent / "templates" / "style.css").read_text()
    (tmp_path / "page.html").write_text(f"<!doctype html><style>{style}</style><main>{cards}</main>")
    browser.open((tmp_path / "page.html").as_uri(), 1200, 900, 1)
    browser.run("while (document.readyState !== 'complete') await new Promise((done) => setTimeout(done, 20))")
    style_of = "getComputedStyle(document.querySelector('{}')).{}"
    heading, cell, sorted_heading, button, lowest = (
        browser.run(f"return parseFloat({style_of.format(*one)})")
        for one in (
            ("#plain thead th", "paddingLeft"),
            ("#plain td", "paddingLeft"),
            ("#sorted thead th", "paddingLeft"),
            ("#sorted thead button", "paddingLeft"),
            (".confusion td", "borderBottomWidth"),
        )
    )
    assert heading == cell > 0
    assert sorted_heading + button == cell
    assert lowest == 1
    assert browser.run("return document.documentElement.scrollWidth") == 1200


def test_the_markdown_has_the_same_numbers(swept):
    text = (swept / "sweep" / "report.md").read_text()
    for result in results(swept / "sweep"):
        assert f"| {result['final']['top1']:.4f} | {result['best']:.4f} |" in text
    assert "- run 2, FAILED: " in text


def test_mlflow_alone_gives_the_same_report(swept, tmp_path):
    shutil.copytree(swept / "outputs", tmp_path / "outputs")
    hidden = swept.with_name("elsewhere")
    (swept / "sweep").rename(hidden)
    try:
        uri = f"sqlite:///{swept}/outputs/mlflow.db"
        done = run_command("report", "--experiment", "tried", "--uri", uri, "--output", "all.html", cwd=tmp_path)
    finally:
        hidden.rename(swept / "sweep")
    assert done.returncode == 0, done.stderr
    text, page = (tmp_path / "all.md").read_text(), (tmp_path / "all.html").read_text()
    for result in results(swept / "sweep"):
        assert f"| {result['final']['top1']:.4f} | {result['best']:.4f} |" in text
    assert "as each run measured it at its own end" in text
    assert "FAILED" in text
    assert len(re.findall('class="line[^>]*data-run', page)) == 6
    assert 'alt="test image' in page
    assert "<h3>Confusion matrix" in page
    assert re.search(r"digits: \d+ train, \d+ val, \d+ test images of 10 classes", page)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name runs"),
        (["nowhere"], "There is no run nowhere"),
        (["sweep", "--output", "page.txt"], "page.html"),
        (["sweep", "--output", "/dev/null/page.html"], "Name another place"),
        (["--experiment", "other"], "It has: Default, tried"),
        (["0" * 32], "There is no run 000"),
    ],
)
def test_what_cannot_be_reported_is_one_message(swept, arguments, message):
    done = run_command("report", *arguments, cwd=swept)
    assert done.returncode in (2, 3)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
