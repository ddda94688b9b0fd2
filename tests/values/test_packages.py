"""What is stored of installed packages that a request needs."""

from sheepdog.values.packages import Wanted, read, stored


def test_what_is_stored_is_read() -> None:
    wanted = (
        Wanted("sklearn", "scikit-learn", "1.5", certain=True, by="/home/a/sim.py", modules=("sklearn.svm",)),
        Wanted("local", "", "", certain=False, elsewhere=True),
    )
    assert read(stored(wanted)) == wanted
    assert [each.requirement for each in wanted] == ["scikit-learn==1.5", "local"]


def test_another_python_needs_more() -> None:
    wanted = Wanted("numpy", "numpy", "2", certain=False, by="a.py", elsewhere=True)
    assert wanted.told(other=False) == ("numpy", "numpy", "2", False, "a.py", [])
    assert wanted.told(other=True) == ("numpy", "numpy", "2", True, "a.py", [])


def test_a_list_that_says_nothing_of_other_pythons_is_read() -> None:
    assert read(b'[["numpy","numpy","2",true,"",[]]]') == (Wanted("numpy", "numpy", "2", certain=True),)


def test_nothing_is_stored_of_nothing() -> None:
    assert stored(()) == b""
    assert read(b"") == ()
