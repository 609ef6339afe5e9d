"""All operations on fixed maps compute what they have computed since they were first checked against OpenCV."""

from benchmarks.digest import digest


def test_digest(native):
    assert digest() == "cd8c1a83d5757693"
