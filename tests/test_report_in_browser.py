"""The page in a real browser: it sorts, filters, draws, explains, and runs nothing of a name."""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report import page
from harness.storage.json_files import write_json
from harness.storage.results import csv_path, write
from harness.suites.base import Measurement

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.chrome.webdriver import WebDriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="there is no Chromium with its driver"
)
Folder = Callable[..., Path]  # writes a results folder
Show = Callable[[Path], WebDriver]  # opens its page
MODELS = ["resnet18", "pde_aug", "timm/some-net"]
HOSTILE = [
    "<script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=2">',
    "javascript:window.hacked=3",
    "</script><script>window.hacked=4</script>",
    "<svg onload=window.hacked=5>",
    "{{constructor.constructor('window.hacked=6')()}}",
    "__proto__",
    "<!--<script>",
]
TOLD = {"limit": 0, "version": 1, "data": "images", "cells": {}}  # what a run's JSON must say
READY = "return document.documentElement.dataset.ready"


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.add_argument("--force-prefers-reduced-motion")  # a click waits for no scrolling
    options.add_argument("--window-size=1280,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def shown(browser: WebDriver) -> Callable[[Path], WebDriver]:
    """A function that opens the page of a results folder and waits until all of it is drawn."""

    def show(results: Path) -> WebDriver:
        browser.get((results / page.PATH).resolve().as_uri())
        drawn(browser)
        return browser

    return show


def drawn(browser: WebDriver) -> None:
    WebDriverWait(browser, 60).until(lambda b: b.execute_script(READY))


@pytest.fixture(scope="module")
def folder(told_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = told_folder(tmp_path_factory.mktemp("browser"), MODELS)
    effect = {"model": "pde_aug", "against": "resnet18", "suite": "robustness", "decides": True}
    effect |= {"metric": "accuracy", "group": "clean"}
    effect |= {"effect": -0.01, "low": -0.03, "high": 0.01, "p": 0.4, "seeds": 2, "images": 1000}
    question = {"number": "1", "question": "Is it?", "verdict": "worse", "answer": "No."}
    runs = [f"d/robustness/{m}/seed{s}.csv" for m in ("pde_aug", "resnet18") for s in (0, 1)]
    question |= {"effects": [effect], "runs": runs}
    study = {"scale": "d, 5 seeds", "command": "harness study", "commit": "c0ffee"}
    study |= {"dataset": "d", "questions": [question]}
    files = {path: hashlib.sha256((results / path).read_bytes()).hexdigest() for path in runs}
    write_json(results / "d" / "study.json", study | {"runs": files})
    for seed in (0, 1):
        path = results / "checkpoints" / "d" / "pde_aug" / f"seed{seed}.json"
        epochs = [{"epoch": i, "loss": 2 / i, "accuracy": 1 - 0.5 / i} for i in (1, 2, 3)]
        write_json(path, {"dataset": "d", "model": "pde_aug", "seed": seed, "history": epochs})
    page.write(results)
    return results


@pytest.fixture
def open_page(shown: Any, folder: Path) -> WebDriver:
    return shown(folder)


def find(browser: WebDriver, selector: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, selector)


def board(browser: WebDriver) -> list[list[str]]:
    """The text of the leaderboard's cells, row by row."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#board tbody tr')].map("
        "row => [...row.cells].map(cell => cell.textContent.trim()))"
    )


def names(browser: WebDriver) -> list[str]:
    return [row[0].removesuffix(" baseline") for row in board(browser)]


def wait_for_charts(browser: WebDriver, change: Callable[[], None]) -> None:
    browser.execute_script("delete document.documentElement.dataset.ready")
    change()
    drawn(browser)


def test_the_page_says_nothing_to_the_console_and_loads_nothing(open_page: WebDriver) -> None:
    assert [entry["message"] for entry in open_page.get_log("browser")] == []
    events = [json.loads(e["message"])["message"] for e in open_page.get_log("performance")]
    urls = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {url.partition(":")[0] for url in urls} <= {"file", "data", "blob"}
    assert len([url for url in urls if url.startswith("file:")]) == 1


def wait_for_order(browser: WebDriver, column: str, order: str) -> None:
    """Rows are sorted a moment after the click."""
    heading = find(browser, f"#board th.{column}")
    WebDriverWait(browser, 10).until(lambda _: heading.get_attribute("aria-sort") == order)


def test_a_click_or_a_key_on_a_heading_sorts(open_page: WebDriver) -> None:
    wait_for_order(open_page, "value", "descending")
    assert names(open_page) == MODELS
    find(open_page, "#board th.value").click()
    wait_for_order(open_page, "value", "ascending")
    assert names(open_page) == MODELS[::-1]
    find(open_page, "#board th.model .dt-column-order").send_keys(Keys.ENTER)
    wait_for_order(open_page, "model", "ascending")
    assert names(open_page) == sorted(MODELS)


def test_the_search_filters_by_the_model(open_page: WebDriver) -> None:
    search = find(open_page, "#board-search")
    search.send_keys("net")
    assert names(open_page) == ["resnet18", "timm/some-net"]
    search.send_keys("x")
    assert "No model has this name" in find(open_page, "#board tbody").text
    search.clear()
    search.send_keys("baseline")
    assert names(open_page) == ["resnet18"]


def test_columns_are_chosen_and_come_back_as_they_were(open_page: WebDriver) -> None:
    first = board(open_page)
    Select(find(open_page, "#board-metric")).select_by_value("nll")
    Select(find(open_page, "#board-group")).select_by_value("fog")
    assert find(open_page, "#board-caption").text.startswith("NLL under fog")
    # 2 (1 - (0.901 - 0.05 x 3)), 0.02 more for each model; less is better
    values = [n.text for n in open_page.find_elements(By.CSS_SELECTOR, "#board tbody .number")]
    assert values == ["0.4980", "0.5180", "0.5380"]
    assert names(open_page) == MODELS
    assert find(open_page, "#board th.value").get_attribute("aria-sort") == "ascending"
    Select(find(open_page, "#board-metric")).select_by_value("accuracy")
    Select(find(open_page, "#board-group")).select_by_value("clean")
    assert board(open_page) == first


def test_bars_lie_where_the_numbers_are(open_page: WebDriver) -> None:
    track = find(open_page, "#board .f-track")
    low, high = (float(find(open_page, f"#axis-{end}").text) for end in ("low", "high"))
    edges = open_page.execute_script(
        "const at = e => e.getBoundingClientRect(); const t = at(arguments[0]);"
        "return ['.bar', '.dot'].map(s => at(arguments[0].querySelector(s)))"
        ".map(b => [(b.left - t.left) / t.width, (b.right - t.left) / t.width])",
        track,
    )
    shown = [*find(open_page, "#board td.interval").text.split(" to ")]
    value = find(open_page, "#board .number").text
    place = [(float(v) - low) / (high - low) for v in (*shown, value)]
    assert edges[0] == pytest.approx(place[:2], abs=0.005)
    assert sum(edges[1]) / 2 == pytest.approx(place[2], abs=0.005)


def test_every_number_says_what_made_it(open_page: WebDriver) -> None:
    find(open_page, "#board tbody tr:nth-child(2) .number").click()
    dialog = find(open_page, "#made")
    assert dialog.is_displayed()
    told = dialog.text
    for part in (
        "pde_aug, robustness on d",
        "89.1 % (95 %: 87.0 to 90.9)",
        "rank 1–3",
        "c0ffee",
        "harness run --suite robustness",
        "a CPU",
        "d/robustness/pde_aug/seed1.csv",
    ):
        assert part in told
    find(open_page, "#made details summary").click()
    made = json.loads(find(open_page, "#made details pre").text)
    assert [run["weights"] for run in made["runs"]] == [f"{1:032x}{seed:032x}" for seed in (0, 1)]
    dialog.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    focused = open_page.switch_to.active_element
    assert focused.get_attribute("data-model") == "pde_aug"


def test_answers_and_runs_say_what_made_them(open_page: WebDriver) -> None:
    assert not find(open_page, "#answers .effects").is_displayed()
    find(open_page, "#answers summary").click()
    track = find(open_page, "#answers .track")
    places = open_page.execute_script(
        "const style = arguments[0].style;"
        "return ['--zero', '--at', '--from', '--to'].map(name => style.getPropertyValue(name))",
        track,
    )
    zero, at, low, high = (float(place.rstrip("%")) for place in places)
    assert (zero - at) / (zero - low) == pytest.approx(1 / 3) and high - zero == zero - at
    find(open_page, "#answers [data-runs]").click()
    told = find(open_page, "#made").text
    assert told.startswith("pde_aug against resnet18") and "pde_aug less resnet18 is -1.0" in told
    assert "No run of" not in told
    assert {"pde_aug/seed1.csv", "resnet18/seed0.csv"} <= set(
        told.replace("robustness/", " ").split()
    )
    find(open_page, "#made-close").click()
    open_page.execute_script("document.querySelector('#runs [data-run=\"0\"]').click()")
    assert "seed0.csv" in find(open_page, "#made").text
    assert "seed1.csv" not in find(open_page, "#made").text
    find(open_page, "#made-close").click()


def test_curves_are_drawn_and_told(open_page: WebDriver) -> None:
    charts = open_page.find_elements(By.CSS_SELECTOR, "#curves .chart")
    captions = [c.text for c in open_page.find_elements(By.CSS_SELECTOR, "#curves figcaption")]
    assert captions == ["fog", "snow", "mean of all"] and len(charts) == 3
    for chart in charts:
        assert len(chart.find_elements(By.CSS_SELECTOR, ".mark-line.role-mark path")) == 3
        assert len(chart.find_elements(By.CSS_SELECTOR, ".mark-symbol.role-mark path")) == 18
    told = charts[0].get_attribute("aria-label")
    assert told.startswith("fog: accuracy % by severity (0: clean); resnet18 from 90.1 to 65.1; ")


def test_accuracy_is_drawn_against_evaluations(shown: Any, tmp_path: Path) -> None:
    def measure(model: str, cells: list[tuple]) -> None:
        path = csv_path(tmp_path, "d", "nfe", model, 0)
        key = {"model": model, "suite": "nfe", "dataset": "d", "seed": 0, "run": "r"}
        measured = [
            Measurement(condition, level, metric, "", value, 1000)
            for condition, level, nfe, accuracy in cells
            for metric, value in (("accuracy", accuracy), ("evaluations", nfe), ("macs", 3e6 * nfe))
        ]
        write(path, key, measured, TOLD)

    steps = [("euler", n, n, 0.7 + n / 100) for n in (1, 2, 4, 8, 16)]
    measure("ode_block", [*steps, ("dopri5", 0.1, 14, 0.9), ("dopri5", 0.01, 20, 0.9)])
    measure("resnet18", [("depth", 0, 8, 0.85)])
    page.write(tmp_path)
    browser = shown(tmp_path)
    chart = find(browser, "#curves .chart")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#curves .chart")) == 1
    assert len(chart.find_elements(By.CSS_SELECTOR, ".mark-symbol.role-mark path")) == 8
    texts = [t.text for t in chart.find_elements(By.CSS_SELECTOR, "svg text")]
    assert "resnet18" in texts and {"1", "2", "4", "8", "16"} <= set(texts)
    told = chart.get_attribute("aria-label")
    assert "resnet18 from 85.0 to 85.0; euler from 71.0 to 86.0; dopri5 from 90.0 to 90.0" in told
    Select(find(browser, "#curves .facet")).select_by_value("condition")
    captions = [c.text for c in browser.find_elements(By.CSS_SELECTOR, "#curves figcaption")]
    assert captions == ["euler", "dopri5"]
    drawn(browser)
    Select(find(browser, "#curves .across")).select_by_visible_text("multiply-adds, millions")
    drawn(browser)
    assert find(browser, "#curves .x").text == "multiply-adds, millions"
    texts = [t.text for t in find(browser, "#curves .chart").find_elements(By.TAG_NAME, "text")]
    assert {"4", "8", "16", "32"} <= set(texts) and "1" not in texts


def test_training_is_drawn_once_it_is_opened(open_page: WebDriver) -> None:
    section = find(open_page, "#training details")
    assert not section.find_elements(By.CSS_SELECTOR, "figure")
    section.find_element(By.TAG_NAME, "summary").click()
    WebDriverWait(open_page, 10).until(
        lambda _: len(section.find_elements(By.CSS_SELECTOR, ".mark-line.role-mark path")) == 2
    )
    captions = [c.text for c in section.find_elements(By.TAG_NAME, "figcaption")]
    assert captions == ["training loss, nats", "training accuracy, %"]
    assert [s.text for s in section.find_elements(By.CSS_SELECTOR, ".lines > span")] == ["pde_aug"]
    label = section.find_element(By.CSS_SELECTOR, ".chart").get_attribute("aria-label")
    assert label == "training loss, nats: training loss nats by epoch; pde_aug from 2.000 to 0.667."
    point = section.find_element(By.CSS_SELECTOR, ".mark-symbol.role-mark path")
    open_page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    webdriver.ActionChains(open_page).move_to_element(point).click().perform()
    told = find(open_page, "#made").text
    assert told.startswith("pde_aug, training on d") and "pde_aug/seed1.csv" in told
    find(open_page, "#made-close").click()


def test_variants_have_a_menu_of_their_own(shown: Show, tmp_path: Path) -> None:
    path = csv_path(tmp_path, "d", "attention", "vit", 0)
    key = {"model": "vit", "suite": "attention", "dataset": "d", "seed": 0, "run": "r"}
    measured = [
        Measurement("fog", level, metric, variant, value, 1000)
        for level in (1, 3)
        for metric, variant, value in (
            ("accuracy", "", 0.9),
            ("gini", "used", 0.25),
            ("gini", "sharp", 0.5),
        )
    ]
    write(path, key, measured, TOLD)
    page.write(tmp_path)
    browser = shown(tmp_path)
    for part in ("#board-", "#curves select."):
        assert not find(browser, f"{part}variant").is_displayed()
        Select(find(browser, f"{part}metric")).select_by_visible_text("Gini coefficient")
        variant = Select(find(browser, f"{part}variant"))
        assert {option.text for option in variant.options} == {"used", "sharp"}
        variant.select_by_visible_text("sharp")
    assert find(browser, "#board .number").text == "0.5000"
    assert find(browser, "#board-caption").text.startswith("Gini coefficient, sharp under fog")
    assert find(browser, "#curves .up").text == "Gini coefficient, sharp"


def test_models_are_told_apart_without_color(open_page: WebDriver) -> None:
    shapes = open_page.execute_script(
        "return [...document.querySelectorAll('#chosen use')].map(u => u.getAttribute('href'))"
    )
    assert len(shapes) == len(set(shapes)) == 3


def test_a_model_is_taken_out_of_the_charts(open_page: WebDriver) -> None:
    find(open_page, "#chooser summary").click()
    box = find(open_page, "#chooser-list li:nth-child(2) input")
    wait_for_charts(open_page, box.click)
    assert find(open_page, "#chosen").text.split() == ["resnet18", "timm/some-net"]
    lines = open_page.find_elements(By.CSS_SELECTOR, "#curves .mark-line.role-mark path")
    assert len(lines) == 6


def test_charts_change_their_metric_and_their_panels(open_page: WebDriver) -> None:
    Select(find(open_page, "#curves .metric")).select_by_visible_text("NLL")
    assert find(open_page, "#curves .up").text == "NLL, nats"
    Select(find(open_page, "#curves .facet")).select_by_value("model")
    captions = [c.text for c in open_page.find_elements(By.CSS_SELECTOR, "#curves figcaption")]
    assert captions == MODELS
    assert [s.text for s in open_page.find_elements(By.CSS_SELECTOR, "#curves .lines > span")] == [
        "fog",
        "snow",
        "mean of all",
    ]


def test_the_curves_as_numbers_are_the_curves(open_page: WebDriver) -> None:
    find(open_page, "#curves details.table summary").click()
    WebDriverWait(open_page, 10).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#curves td"))
    rows = open_page.execute_script(
        "return [...document.querySelectorAll('#curves .table tbody tr')].map("
        "row => [...row.cells].map(cell => cell.textContent))"
    )
    assert len(rows) == 18
    assert [cell.split()[0] for cell in rows[3]] == ["fog", "3", "75.1", "74.1", "73.1"]
    button = find(open_page, "#curves .table tr:nth-child(4) [data-model='pde_aug']")
    open_page.execute_script("arguments[0].click()", button)
    assert "accuracy 74.1 %" in find(open_page, "#made").text
    find(open_page, "#made-close").click()


def test_a_click_on_a_point_says_what_made_it(open_page: WebDriver) -> None:
    point = find(open_page, "#curves .mark-symbol.role-mark path")
    open_page.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    webdriver.ActionChains(open_page).move_to_element(point).click().perform()
    assert "robustness on d" in find(open_page, "#made-title").text
    find(open_page, "#made-close").click()


def ground(browser: WebDriver) -> str:
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def test_the_theme_follows_the_system_until_a_person_chooses(open_page: WebDriver) -> None:
    white, black = "rgb(255, 255, 255)", "rgb(20, 23, 26)"

    def system(theme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": theme}]
        open_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    try:
        system("dark")
        assert ground(open_page) == black
        button = find(open_page, "#theme")
        # The page hears of the system's change in an event of its own.
        WebDriverWait(open_page, 10).until(lambda _: button.get_attribute("aria-pressed") == "true")
        button.click()
        assert ground(open_page) == white and button.get_attribute("aria-pressed") == "false"
        open_page.refresh()
        drawn(open_page)
        assert ground(open_page) == white
    finally:
        open_page.execute_script("localStorage.clear()")
        system("light")


def test_the_first_key_leads_past_the_menu(open_page: WebDriver) -> None:
    find(open_page, "body").send_keys(Keys.TAB)
    skip = open_page.switch_to.active_element
    assert skip.text == "Skip to the results"
    skip.send_keys(Keys.ENTER)
    assert open_page.switch_to.active_element.get_attribute("id") == "main"


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(open_page: WebDriver, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    open_page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert open_page.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        open_page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_prints(open_page: WebDriver) -> None:
    printed = base64.b64decode(open_page.print_page())
    assert printed[:5] == b"%PDF-"
    open_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not find(open_page, "#board-controls").is_displayed()
        assert not find(open_page, ".top").is_displayed()
        assert find(open_page, "#board").is_displayed()
        height = "return document.querySelector('#answers .effects').offsetHeight"
        assert open_page.execute_script(height) > 0, "closed answers are printed whole"
        assert not find(open_page, "#runs").is_displayed()
    finally:
        open_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_hostile_names_do_nothing(
    shown: Any, told_folder: Callable[..., Path], tmp_path: Path
) -> None:
    made = {
        "command": HOSTILE[0],
        "environment": {"device": HOSTILE[1], "versions": {"a": HOSTILE[3]}},
    }
    told_folder(tmp_path, HOSTILE, dataset=HOSTILE[1], kinds=("fog", HOSTILE[4]), made=made)
    page.write(tmp_path)
    browser = shown(tmp_path)
    assert names(browser) == HOSTILE
    Select(find(browser, "#board-metric")).select_by_value("nll")
    assert names(browser) == HOSTILE
    find(browser, "#board-search").send_keys("<img")
    assert names(browser) == [HOSTILE[1]]
    find(browser, "#board .number").click()
    assert HOSTILE[0] in find(browser, "#made").text
    find(browser, "#made summary").click()
    find(browser, "#made-close").click()
    browser.execute_script("document.querySelector('#curves details.table').open = true")
    for i in range(len(HOSTILE)):  # over a point of each model, which shows its tooltip
        points = browser.find_elements(By.CSS_SELECTOR, "#curves .mark-symbol.role-mark path")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", points[6 * i])
        webdriver.ActionChains(browser).move_to_element(points[6 * i]).perform()
    assert find(browser, "#vg-tooltip-element").text
    Select(find(browser, "#curves .facet")).select_by_value("model")
    drawn(browser)
    assert browser.execute_script("return window.hacked ?? null") is None
    assert browser.execute_script("return document.images.length") == 0
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_the_policy_holds_what_gets_past_the_escapes(open_page: WebDriver) -> None:
    open_page.execute_script(
        "document.body.insertAdjacentHTML('beforeend',"
        '\'<img src="https://evil.example/x.png" onerror="window.hacked=1">\');'
    )
    WebDriverWait(open_page, 10).until(
        lambda b: sum("Content Security Policy" in e["message"] for e in b.get_log("browser")) > 0
    )
    assert open_page.execute_script("return window.hacked ?? null") is None


def test_two_hundred_models_are_fluent(
    shown: Any, told_folder: Callable[..., Path], tmp_path: Path
) -> None:
    told_folder(tmp_path, [f"net_{i}" for i in range(200)], seeds=(0,), kinds=("fog",))
    page.write(tmp_path)
    browser = shown(tmp_path)
    assert len(names(browser)) == 50 and "1 to 50 of 200 models" in find(browser, "main").text
    assert len(browser.find_elements(By.CSS_SELECTOR, "#chosen > span")) == 4
    took = browser.execute_async_script(
        "const [done, start] = [arguments[0], performance.now()];"
        "const heading = document.querySelector('#board th.value');"
        "const box = document.getElementById('board-search');"
        "heading.click(); box.value = '19'; box.dispatchEvent(new Event('input'));"
        "const sorted = () => heading.getAttribute('aria-sort') === 'ascending';"
        "const look = () => (sorted() ? done(performance.now() - start) : setTimeout(look));"
        "requestAnimationFrame(look);"
    )
    assert len(names(browser)) == 12 and took < 1000  # 19, 119, 190 to 199; milliseconds
