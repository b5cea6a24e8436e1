"""A person without a mouse: moves by Tab, types, presses Enter and Space, and must see where the focus is."""

from __future__ import annotations

from playwright.sync_api import Page

MOST_TABS = 120


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus; the focus must be visible there."""
    wanted = page.locator(selector).first
    wanted.wait_for()
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            assert wanted.evaluate("element => getComputedStyle(element).outlineStyle") != "none", selector
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def fill(page: Page, selector: str, text: str) -> None:
    """Tab to a field, replace what is in it."""
    tab_to(page, selector)
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def press(page: Page, selector: str) -> None:
    """Tab to a button or link and press Enter."""
    tab_to(page, selector)
    page.keyboard.press("Enter")


def toggle(page: Page, selector: str) -> None:
    """Tab to a checkbox and press Space."""
    tab_to(page, selector)
    page.keyboard.press("Space")


def choose(page: Page, selector: str, value: str) -> None:
    """Tab to a select and go down with the arrow until the value is chosen."""
    tab_to(page, selector)
    place = page.locator(selector).first
    page.keyboard.press("Home")
    for _ in range(40):
        if place.input_value() == value:
            return
        page.keyboard.press("ArrowDown")
    raise AssertionError(f"{selector} has no {value!r}")
