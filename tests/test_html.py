"""Html: what a notebook shows, with nothing of a name or text taken for a tag."""

from __future__ import annotations

from artifactfs.html import facts


def test_every_text_is_escaped() -> None:
    hostile = "<script>alert('x')</script>&"
    shown = facts(hostile, {hostile: hostile, "list": [hostile], "map": {hostile: hostile}})
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 6


def test_what_is_empty_is_left_out() -> None:
    shown = facts("title", {"none": None, "text": "", "list": [], "map": {}, "zero": 0, "no": False})
    assert "zero" in shown and "no" in shown
    for name in ("none", "text", "list", "map"):
        assert f">{name}<" not in shown
