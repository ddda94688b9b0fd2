"""How often workers may be submitted again, and when."""

from sheepdog.server.decide.tries import FIRST_PAUSE, LONGEST_PAUSE, Tries


def test_submissions_that_are_of_no_use_have_a_bound() -> None:
    tries = Tries(2, 0, 0.0)
    for _ in range(2):
        assert tries.affords(first=False)
        tries.begin(first=False)
        tries.succeed(5.0)
    assert not tries.affords(first=False)
    assert tries.affords(first=True)  # workers with more repeat nothing
    assert tries.latest == 5.0
    tries.begin_anew()
    assert tries.affords(first=False)


def test_only_one_is_under_way() -> None:
    tries = Tries(2, 0, 0.0)
    assert tries.may_begin(0.0)
    tries.begin(first=False)
    assert not tries.may_begin(0.0)
    tries.succeed(1.0)
    assert tries.may_begin(1.0)


def test_the_pauses_grow_until_one_succeeds() -> None:
    tries = Tries(2, 0, 0.0)
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
        tries.fail(100.0)
        assert not tries.may_begin(100.0 + pause - 1)
        assert tries.may_begin(100.0 + pause)
    for _ in range(20):
        tries.fail(100.0)
    assert tries.not_before == 100.0 + LONGEST_PAUSE
    tries.succeed(0.0)
    tries.fail(100.0)
    assert tries.not_before == 100.0 + FIRST_PAUSE


def test_what_was_nobodys_fault_does_not_count() -> None:
    tries = Tries(2, 1, 0.0)
    tries.begin(first=False)
    assert (tries.forgive(), tries.fruitless) == (True, 1)
    tries.begin(first=True)
    assert (tries.forgive(), tries.fruitless) == (False, 1)
