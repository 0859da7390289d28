"""Ids of images: safe in paths, different for any two texts, and spread over shards and parts."""

import hashlib

import pytest

from histotransfer.sheets import ids


@pytest.mark.parametrize("text", ["a", "7", "case-7_b.2", "a" * 100])
def test_a_safe_id_stays_as_it_is(text):
    assert ids.safe_id(text) == text


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("Case 7/A", "case-7-a"),
        ("case 7/a", "case-7-a"),
        ("../../etc/passwd", "etc-passwd"),
        ("a..b", "a-b"),
        ('say "x"', "say-x"),
        ("..", "id"),
        ("", "id"),
        ("😀", "id"),
        ("Größe", "grosse"),
        ("-x", "x"),
        ("a" * 101, "a" * 88),
        ("a--0123456789", "a--0123456789"),
    ],
)
def test_other_ids_get_a_safe_stem_and_ten_digits_of_their_hash(text, stem):
    assert ids.safe_id(text) == f"{stem}--{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def test_safe_ids_are_fit_for_file_names_and_tell_all_texts_apart():
    texts = ["A", "a", "A ", "Ä", "ä", "a/b", "a\\b", "a--b", "ab" * 80, "Ab" * 80, ".a", "a.", "\u00e9", "e\u0301"]
    made = [ids.safe_id(text) for text in texts]
    # what is made for one text is never the id of another
    made += [ids.safe_id(name) for name in made if name not in texts]
    assert len(set(made)) == len(made)
    for name in made:
        assert ids.SAFE.fullmatch(name), name
        assert ".." not in name
        assert len(name) <= 100


def test_buckets_and_parts():
    # sha256("a") ends in ...48bb, sha256("b") in ...c48d
    assert [ids.bucket(text, 16) for text in "ab"] == [0xB, 0xD]
    assert ids.part_ids(3) == ["part-00", "part-01", "part-02"]
