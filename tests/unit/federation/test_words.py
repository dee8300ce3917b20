"""Closed lists are closed: every member is worded in both languages, and both sides see the same one."""

from federation.categories import CATEGORIES, PURPOSES
from federation.outcome import CANNOT_HIDE, NotAsked
from federation.reasons import TEXTS, Reason


def test_every_reason_has_both_texts():
    assert TEXTS.keys() == set(Reason)
    assert all(text.zh and text.en and text.zh != text.en for text in TEXTS.values())


def test_every_category_and_purpose_has_both_names():
    for entry in [category.name for category in CATEGORIES.values()] + list(PURPOSES.values()):
        assert entry.zh
        assert entry.en


def test_reasons_that_could_hide_a_record_never_allow_complete():
    assert {NotAsked.DEFERRED, NotAsked.STOPPED_EARLY}.isdisjoint(CANNOT_HIDE)
