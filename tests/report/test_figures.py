"""Letters of names in pictures: drawn in a font that has them, or named."""

from __future__ import annotations

import warnings

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from runner.report import figures


@pytest.fixture
def font(tmp_path):
    """Install a font of two letters that no font has by default, for a test."""
    listed = list(font_manager.fontManager.ttflist)
    builder = FontBuilder(1000, isTTF=True)
    pen = TTGlyphPen(None)
    for number, point in enumerate([(0, 0), (500, 700), (1000, 0)]):
        (pen.lineTo if number else pen.moveTo)(point)
    pen.closePath()
    builder.setupGlyphOrder([".notdef", "one"])
    builder.setupCharacterMap({0x6570: "one", 0x636E: "one"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "one": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "one": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Two Letters", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "two.ttf")

    def install():
        font_manager.fontManager.addfont(tmp_path / "two.ttf")
        figures._fonts.cache_clear()

    figures._fonts.cache_clear()
    font_manager.fontManager.ttflist = [one for one in listed if "CJK" not in one.name]
    yield install
    font_manager.fontManager.ttflist = listed
    figures._fonts.cache_clear()


def missing_glyphs(text, folder):
    """What matplotlib itself says it has no glyph for."""
    figure = Figure()
    with warnings.catch_warnings(record=True) as caught, figures.plain_texts(text):
        warnings.simplefilter("always")
        figure.text(0.5, 0.5, text)
        figure.savefig(folder / "figure.png")
    return [str(one.message) for one in caught if "missing" in str(one.message)]


def test_letters_that_no_font_has_are_named_with_what_to_install(font, tmp_path):
    assert missing_glyphs("数据 cat", tmp_path)
    note = figures.boxes("数据 cat")
    assert "数" in note
    assert "据" in note
    assert "cat" not in note
    assert "fonts-noto-cjk" in note


def test_letters_are_drawn_in_an_installed_font_that_has_them(font, tmp_path):
    font()
    assert figures._fonts("数据 cat") == (["DejaVu Sans", "Two Letters"], "")
    assert not missing_glyphs("数据 cat", tmp_path)
    assert figures.boxes("数据 cat") == ""
    assert figures._fonts("数的")[1] == "的"


@pytest.mark.parametrize("text", ["", "cat $x$ [a] \\n", "Größe, кошка, γάτα"])
def test_letters_of_the_first_font_need_no_other(text):
    figures._fonts.cache_clear()
    assert figures._fonts(text) == (["DejaVu Sans"], "")


def test_a_font_that_has_a_box_for_everything_is_not_one_that_has_a_letter(font):
    assert "Last Resort" not in " ".join(name for name, _ in figures._installed())
    assert figures._fonts("\U000e0fff")[1] == "\U000e0fff"


def test_a_font_whose_file_is_gone_has_no_letters(tmp_path):
    assert figures._letters(str(tmp_path / "gone.ttf")) == set()
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    assert figures._letters(str(tmp_path / "damaged.ttf")) == set()
