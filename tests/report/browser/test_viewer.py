"""The viewer in a real browser: every number that it shows is the operations'.

In: pages made from maps, opened in Chromium. Out: verdicts, and pictures of what was seen. Source: none.
"""

import json

import numpy as np
import pytest
from pages import IOU_THRESHOLDS, NORMALIZATIONS, SIZE, cams_of, page_of, slide, truths_of

from wsolkern.ops import DEFAULT_THRESHOLDS, box_ious, normalize, threshold_boxes
from wsolkern.ops.boxes import ious_reference
from wsolkern.report.page import Page, render

pytest.importorskip("jinja2")
NUM = 60


@pytest.fixture(scope="module")
def cams():
    maps = cams_of("peaks", NUM, np.random.default_rng(3))
    maps[7] = 1.5  # constant: degenerate under each normalization
    return maps


@pytest.fixture(scope="module")
def report(cams) -> Page:
    return page_of({"CAM": cams}, truths_of(NUM, np.random.default_rng(4)), with_thumbnails=True)


@pytest.fixture(scope="module")
def compared(cams) -> Page:
    others = cams_of("peaks", NUM, np.random.default_rng(5))
    return page_of({"CAM": cams, "HaS": others}, truths_of(NUM, np.random.default_rng(4)))


def shown(page) -> list[int]:
    """The images in the grid that exist, in order."""
    cells = page.locator("#grid .cell")
    places = {int(each.get_attribute("aria-posinset")): int(each.get_attribute("data-image")) for each in cells.all()}
    return [places[each] for each in sorted(places)]


def check_figures(page, cams, report: Page, image: int, name: str, place: int, run: int = 0) -> None:
    """What the panel of an image shows is what the operations give."""
    panel = page.locator("#panels .panel").nth(run)
    threshold = report.thresholds[place]
    (expected,) = threshold_boxes(normalize(cams[image : image + 1], name, SIZE), [threshold])[0]
    boxes = np.reshape(json.loads(panel.get_attribute("data-boxes")), (-1, 4))
    assert sorted(map(tuple, boxes.tolist())) == sorted(map(tuple, expected.tolist()))
    iou = ious_reference(expected, report.truths[image]).max()
    assert float(panel.get_attribute("data-iou")) == iou
    caption = panel.locator("figcaption").inner_text()
    right = [f"{each:g}" for each in IOU_THRESHOLDS if iou >= each]
    assert caption.startswith(f"IoU {iou:.4f}, {'right at ' + ', '.join(right) if right else 'wrong'}; {len(boxes)} ")
    assert page.locator("#threshold-value").inner_text() == f"{threshold:.3f}"
    assert panel.locator("rect.other").count() == len(boxes) - 1
    assert panel.locator("rect.truth").count() == len(report.truths[image])
    nearest = panel.locator("rect.nearest")
    x, y, w, h = (int(nearest.get_attribute(each)) for each in ("x", "y", "width", "height"))
    assert [x, y, x + w - 1, y + h - 1] in expected.tolist()
    assert ious_reference(np.array([[x, y, x + w - 1, y + h - 1]]), report.truths[image]).max() == iou


def test_boxes_follow_the_slider_and_the_normalization(opened, cams, report, keep_picture):
    page = opened(render(report))
    keep_picture(page, "grid-light")
    for image in (0, 5, 7):
        page.locator(f'#grid .cell[data-image="{image}"] button').click()
        for m, name in enumerate(NORMALIZATIONS):
            page.locator("#marks").get_by_role("button", name=name, exact=True).click()
            assert int(page.locator("#threshold").input_value()) == report.runs[0].views[m].chosen[1]
            for place in (0, 40, 333, 720, 999):
                slide(page, "threshold", place)
                check_figures(page, cams, report, image, name, place)
        page.keyboard.press("Escape")
    page.locator('#grid .cell[data-image="0"] button').click()
    slide(page, "threshold", 300)
    keep_picture(page, "large-light")


def test_the_percentile_is_continuous(opened, cams, report):
    page = opened(render(report))
    page.locator('#grid .cell[data-image="2"] button').click()
    for kind, percentile in (("ivr", "0.4321"), ("pas", "0.0007"), ("ivr", "0"), ("ivr", "0.95"), ("pas", "0.8888")):
        page.locator("#kind").select_option(kind)
        slide(page, "percentile", percentile)
        name = f"{kind}:{percentile}"
        for place in (100, 500):
            slide(page, "threshold", place)
            check_figures(page, cams, report, 2, name, place)
        page.wait_for_selector("#panels .curve path", state="attached", timeout=30_000)  # from the worker
        label = page.locator("#panels .curve").get_attribute("aria-label")
        ious = box_ious(cams[2:3], [report.truths[2]], name, size=SIZE)[0, 0]
        best = DEFAULT_THRESHOLDS[ious.argmax()]
        best_iou = f"best IoU {ious.max():.4f} at threshold {best:.3f}"
        assert label == f"IoU over the threshold under {name}: {best_iou}"
        assert page.locator("#panels .best-iou").inner_text() == best_iou


def test_curves_that_a_moving_slider_passes_are_not_computed(opened, report):
    page = opened(render(report))
    page.locator('#grid .cell[data-image="2"] button').click()
    page.locator("#kind").select_option("ivr")
    page.evaluate("""() => {
      const post = Worker.prototype.postMessage;
      window.asked = 0;
      Worker.prototype.postMessage = function (...all) { window.asked++; return post.apply(this, all); };
    }""")
    page.locator("#percentile").evaluate("""(slider) => {
      for (let at = 0; at < 30; at++) {
        slider.value = 0.317 + at / 100;
        slider.dispatchEvent(new Event("input", { bubbles: true }));
      }
    }""")
    page.locator("#panels .curve[aria-label*='ivr:0.607:']").wait_for(state="attached", timeout=30_000)
    assert page.evaluate("window.asked") <= 2  # the first, unless the worker was at work, and the last


def test_what_is_said_of_an_image_follows_the_controls(opened, cams):
    page = opened(
        render(page_of({"CAM": cams}, truths_of(NUM, np.random.default_rng(4)), ["minmax", "ivr:0.3+pas:0.97"]))
    )
    page.locator('#grid .cell[data-image="2"] button').click()
    assert page.locator("#image-facts").inner_text().split(" · ")[-1] in ("correct", "other")
    page.locator("#kind").select_option("max")  # which is not listed: nothing is known of its errors
    assert page.locator("#image-facts").inner_text().split(" · ")[-1] == "class 2"
    page.locator("#marks").get_by_role("button", name="ivr:0.3+pas:0.97", exact=True).click()
    assert page.locator("#kind").input_value() == "ivr+pas"
    slide(page, "percentile", 0.4)
    panel = page.locator("#panels .panel").first
    place = int(page.locator("#threshold").input_value())
    expected = threshold_boxes(normalize(cams[2:3], "ivr:0.4+pas:0.97", SIZE), [DEFAULT_THRESHOLDS[place]])[0][0]
    boxes = np.reshape(json.loads(panel.get_attribute("data-boxes")), (-1, 4))
    assert sorted(map(tuple, boxes.tolist())) == sorted(map(tuple, expected.tolist()))


def test_filters_and_orders(opened, report, keep_picture):
    page = opened(render(report), height=3000)
    view = {name: each for name, each in zip(NORMALIZATIONS, report.runs[0].views, strict=True)}
    ious = {name: each.ious[:, 1] for name, each in view.items()}
    right = {name: each >= 0.5 for name, each in ious.items()}
    assert shown(page) == list(range(NUM))
    page.locator("#order").select_option("low")
    assert shown(page) == np.argsort(ious["minmax"], kind="stable").tolist()
    page.locator("#listed").select_option(label="ivr:0.45")
    assert shown(page) == np.argsort(ious["ivr:0.45"], kind="stable").tolist()
    page.locator("#order").select_option("file")
    page.locator("#right").select_option(label="ivr:0.45")
    page.locator("#wrong").select_option(label="minmax")
    assert shown(page) == np.nonzero(right["ivr:0.45"] & ~right["minmax"])[0].tolist()
    page.locator("#filters button[type=reset]").click()
    page.locator("#count", has_text=f"{NUM} of {NUM} images").wait_for()
    page.locator("#degenerate").check()
    assert shown(page) == [7]
    page.locator("#degenerate").uncheck()
    page.locator("#text").fill("CLASS 3")
    assert shown(page) == [each for each in range(NUM) if each % 7 == 3]
    page.locator("#text").fill("00012")
    assert shown(page) == [12]
    page.locator("#text").fill("")
    page.locator("#lowest").fill("0.5")
    assert shown(page) == np.nonzero(ious["minmax"] >= 0.5)[0].tolist()
    page.locator("#lowest").fill("0")
    page.locator("#error").select_option("correct")
    assert shown(page) == np.nonzero(right["minmax"])[0].tolist()
    for image, cell in ((each, page.locator(f'#grid .cell[data-image="{each}"]')) for each in shown(page)):
        assert f"{ious['minmax'][image]:.3f}" in cell.inner_text()
    page.locator("#text").fill("no such image")
    assert shown(page) == []
    keep_picture(page, "filtered")


def test_two_runs_side_by_side(opened, compared, keep_picture):
    page = opened(render(compared), height=3000)
    first, second = (run.views[0].ious[:, 1] for run in compared.runs)
    page.locator("#order").select_option("differ")
    assert shown(page) == np.argsort(-abs(first - second), kind="stable").tolist()
    page.locator("#order").select_option("second")
    assert shown(page) == np.argsort(first - second, kind="stable").tolist()
    image = shown(page)[0]
    page.locator("#grid .cell button").first.click()
    for run, each in enumerate(compared.runs):
        maps = np.stack(each.maps)
        slide(page, "threshold", 250)
        check_figures(page, maps, compared, image, "minmax", 250, run)
    page.locator("#kind").select_option("ivr")
    slide(page, "percentile", 0.4321)
    for run, each in enumerate(compared.runs):  # curves of both from the worker
        page.locator("#panels .curve").nth(run).locator("path").wait_for(state="attached", timeout=30_000)
        check_figures(page, np.stack(each.maps), compared, image, "ivr:0.4321", 250, run)
    page.set_viewport_size({"width": 1280, "height": 900})
    keep_picture(page, "compare")


def test_the_keyboard_is_enough(opened, report):
    page = opened(render(report))
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("class 2")
    images = [each for each in range(NUM) if each % 7 == 2]
    assert shown(page) == images
    while page.evaluate("document.activeElement.closest('#grid') === null"):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert page.locator("#image-title").inner_text() == report.ids[images[1]]
    before = int(page.locator("#threshold").input_value())
    page.keyboard.press("ArrowRight")
    assert int(page.locator("#threshold").input_value()) == before + 1
    page.keyboard.press("n")
    assert page.locator('#marks button[aria-pressed="true"]').inner_text() == NORMALIZATIONS[1]
    page.keyboard.press("PageDown")
    assert page.locator("#image-title").inner_text() == report.ids[images[2]]
    page.keyboard.press("Escape")
    page.locator(f'#grid .cell[data-image="{images[2]}"] button:focus').wait_for()
    assert not page.locator("#large").is_visible()


def test_names_and_roles(opened, report):
    page = opened(render(report))
    page.locator("#grid .cell button").first.click()
    page.wait_for_selector("#panels figcaption")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, [role=img]")].filter((each) =>
          !each.textContent.trim() && !each.getAttribute("aria-label") && !(each.labels && each.labels.length))
          .map((each) => each.outerHTML.slice(0, 120))"""
    )
    assert unnamed == []
    assert page.evaluate("[...document.images].every((each) => each.hasAttribute('alt'))")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def test_light_and_dark_wide_and_narrow(opened, report, keep_picture, scheme, width):
    page = opened(render(report), scheme=scheme, width=width, height=844)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [int(each) for each in back.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (sum(levels) > 3 * 128) == (scheme == "light")
    keep_picture(page, f"grid-{scheme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # nothing to scroll sideways
    page.locator("#grid .cell button").first.click()
    keep_picture(page, f"large-{scheme}-{width}")
    assert page.evaluate("document.getElementById('large').scrollWidth <= window.innerWidth")


def test_on_paper_there_are_no_controls(opened, report, keep_picture):
    page = opened(render(report))
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible()
    assert page.locator("h1").is_visible()
    keep_picture(page, "print")


def test_six_thousand_images_exist_only_where_they_are_seen(opened):
    num = 5794
    few = cams_of("peaks", 40, np.random.default_rng(6))
    small = page_of({"CAM": few}, truths_of(40, np.random.default_rng(7)), thresholds=DEFAULT_THRESHOLDS[::50])
    page = opened(render(repeated(small, num)))
    assert page.locator("#grid .cell").count() < 200
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_selector(f'#grid .cell[data-image="{num - 1}"]')
    assert page.locator("#grid .cell").count() < 200


def repeated(page: Page, num: int) -> Page:
    """The same page with its images again and again."""
    of = np.arange(num) % len(page.ids)

    def pick(part):
        return part[of] if isinstance(part, np.ndarray) else [part[each] for each in of]

    def view(each):
        parts = {name: value if name == "chosen" else pick(value) for name, value in vars(each).items()}
        return type(each)(**parts)

    runs = [type(run)(run.name, pick(run.maps), [view(each) for each in run.views]) for run in page.runs]
    changed = {"ids": [f"{each:05d}.jpg" for each in range(num)], "runs": runs, "truths": pick(page.truths)}
    changed |= {"image_sizes": pick(page.image_sizes), "classes": pick(page.classes), "thumbnails": None}
    return type(page)(**{**vars(page), **changed})
