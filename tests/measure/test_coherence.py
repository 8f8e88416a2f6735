import pytest

from raybt.measure.coherence import compression, repetition


def test_repetition_is_the_share_of_repeated_four_grams():
    assert repetition(range(100)) == 0
    assert repetition([1, 2, 3]) == 0
    assert repetition([]) == 0
    assert repetition([1] * 103) == pytest.approx(0.99)
    assert repetition([1, 2, 3, 4, 5, 1, 2, 3, 4]) == pytest.approx(1 / 6)


def test_compression_tells_a_loop_from_prose():
    assert compression("") == 1
    assert compression("hold half bag. " * 100) < 0.05
    assert 0.4 < compression("The employees were divided into 3 groups of 200; each was assigned 7 tour guides.") < 1.2
