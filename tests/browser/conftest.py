"""Fixtures: ComfyUI's own front end in a headless Chromium, on a server with this pack.

Without Chromium these tests are skipped, say so, and the session fails: nothing was compared.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from animatediff_dev_pack import ROOT, import_file

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

examples = import_file("animatediff_dev_examples", ROOT / "dev" / "examples.py")
canvas = import_file("animatediff_dev_canvas", ROOT / "dev" / "canvas.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--front-end", help="another front end: the folder `static` of an unpacked comfyui-frontend-package"
    )
    parser.addoption("--screenshots", type=Path, help="a folder: templates and dialogs are kept there as pictures")


@pytest.fixture(scope="session")
def front_end(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Arguments of a server, for the front end under test."""
    folder = request.config.getoption("--front-end")
    return ("--front-end-root", folder) if folder else ()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    if not (chromium := shutil.which("chromium")):
        pytest.skip("needs the program chromium on the PATH")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        yield playwright.chromium.launch(executable_path=chromium, args=arguments)


@pytest.fixture(scope="session")
def example_server(
    browser: Browser, new_server: Callable, host, front_end: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator:
    """A server that lists the files the example workflows name. Asks for `browser` so that a skip costs no start."""
    models = tmp_path_factory.mktemp("models")
    server = new_server(host, models=[models], extra_args=front_end)
    # The server lists files by name only, so empty ones will do.
    examples.lay_out_files(map(examples.api_form, examples.NAMES), models, server.run)
    with server:
        # Else a first visit opens the template browser over the canvas.
        server.post("/settings", {"Comfy.TutorialCompleted": True})
        yield server


@pytest.fixture(scope="session")
def keep(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """`keep(page, "name")` leaves a picture of the page where `--screenshots` says, to be looked at."""
    folder = request.config.getoption("--screenshots")
    if folder:
        folder.mkdir(parents=True, exist_ok=True)

    def keep(page: Page, name: str) -> None:
        if folder:
            page.screenshot(path=folder / f"{name}.png")

    return keep


@contextmanager
def opened(browser: Browser, server) -> Iterator[Page]:
    """The opened front end. A script error on the page fails the test."""
    page = browser.new_page()
    page.add_init_script(canvas.REMEMBER_FILES)
    page.set_default_timeout(120_000)  # a slow machine is no fault
    errors = []
    page.on("pageerror", lambda error: errors.append(error))  # Playwright takes no built-in method here
    # News and update checks must not make a test depend on the network.
    page.route(lambda url: not url.startswith(server.url), lambda route: route.abort())
    page.goto(server.url)
    # The front end opens a first workflow by itself; before that, one of ours would be replaced.
    page.wait_for_function(canvas.READY)
    yield page
    page.close()
    assert not errors


@pytest.fixture
def page(browser: Browser, example_server) -> Iterator[Page]:
    with opened(browser, example_server) as page:
        yield page


@pytest.fixture(scope="module")
def module_page(browser: Browser, example_server) -> Iterator[Page]:
    """One opened front end for all tests of a module, which must not depend on what others left there."""
    with opened(browser, example_server) as page:
        yield page


@pytest.fixture
def open_search() -> Callable[[Page], None]:
    """`open_search(page)`: the box that searches nodes, over an empty canvas."""

    from playwright.sync_api import TimeoutError as TooLate

    def open_search(page: Page) -> None:
        page.wait_for_function(canvas.SEARCH_READY)
        page.evaluate("app.graph.clear()")
        box = page.get_by_role("combobox")
        for _ in range(10):
            # On a busy machine the page may see two clicks too far apart for a double one.
            page.mouse.dblclick(700, 500)
            with suppress(TooLate):
                return box.wait_for(timeout=5_000)
        pytest.fail("No double click on the empty canvas opened the search.")

    return open_search
