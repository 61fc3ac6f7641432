from collections import Counter

import pytest

from training.turns import Turns


@pytest.mark.parametrize("ratios", [[1], [3, 1], [2, 2, 4], [5, 1, 7]])
def test_every_round_has_as_many_of_each_as_the_ratios_say(ratios: list[int]) -> None:
    turns = Turns(ratios, 0)
    size = sum(turns.ratios)
    for start in range(0, 10 * size, size):
        parts = Counter(turns.part(number)[0] for number in range(start, start + size))
        assert parts == dict(enumerate(turns.ratios))


def test_each_part_gives_all_of_its_batches_in_order() -> None:
    turns = Turns([3, 1, 2], 7)
    dealt = [turns.part(number) for number in range(600)]
    for part, expected in enumerate([300, 100, 200]):
        assert [own for which, own in dealt if which == part] == list(range(expected))
    assert [turns.part(number) for number in reversed(range(600))] == dealt[::-1]


def test_rounds_and_seeds_differ() -> None:
    wide = Turns([8, 9], 0)
    first = [wide.part(number)[0] for number in range(17)]
    second = [wide.part(number)[0] for number in range(17, 34)]
    other = [Turns([8, 9], 1).part(number)[0] for number in range(17)]
    assert first != second and first != other


def test_an_epoch_ends_when_each_part_gave_all() -> None:
    assert Turns([1], 0).until_all_gave([7]) == 7
    assert Turns([3, 1], 0).until_all_gave([30, 10]) == 40
    assert Turns([3, 1], 0).until_all_gave([30, 11]) == 44
    assert Turns([3, 1], 0).until_all_gave([31, 10]) == 44
