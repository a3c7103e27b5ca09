"""A run's page and a comparison in a real browser, from the disk: nothing is asked for."""

import pytest
from page_run import write_run

from fgvc_utils.compare import main as compare
from fgvc_utils.pipeline.run_page import main as write_page

NASTY = '<img src="https://example.invalid/x.png" onerror="document.title=1">'


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages of a run whose classes have names that would ask for something as markup."""
    folder = tmp_path_factory.mktemp("runs")
    classes = sorted([NASTY, "bee", "url(https://example.invalid/y)"])
    one = write_run(folder / "one run", classes=classes)
    two = write_run(folder / "two", classes=classes, dropped=(4, 6), answers=[0, 1, 2, 2, 1, 2])
    assert write_page([str(one)]) == 0 and compare([str(one), str(two)]) == 0
    return [one / "index.html", two / "compare-one run.html"]


@pytest.fixture
def asked(page):
    """What the browser asked for and what it complained of, from here on."""
    found = []
    heard = {
        "request": lambda request: found.append(request.url),
        "console": lambda message: found.append(message.text),
        "pageerror": lambda error: found.append(str(error)),
    }
    for event, hear in heard.items():
        page.on(event, hear)
    yield found
    for event, hear in heard.items():
        page.remove_listener(event, hear)


@pytest.mark.parametrize("which", [0, 1], ids=["run", "comparison"])
def test_a_page_opens_from_the_disk_and_no_request_leaves_it(pages, page, asked, which):
    address = pages[which].as_uri()
    page.goto(address)
    assert [url for url in asked if not url.startswith("data:image/jpeg")] == [address]
    assert page.title() != "1" and page.locator("h2").count() >= 6
    photos = page.locator("figure img")
    assert photos.count() >= 3
    assert photos.evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 20)")
    # Nothing is wider than the window, and each link of the head leads somewhere on the page.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for link in page.locator("nav a").all():
        assert page.locator(f"h2{link.get_attribute('href')}").count() == 1
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and page.locator("h1").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="screen")
    assert [url for url in asked if not url.startswith("data:image/jpeg")] == [address]
