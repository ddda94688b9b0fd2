"""What is stored of installed packages that a request needs."""

from sheepdog.values.packages import Wanted, read, stored


def test_what_is_stored_is_read() -> None:
    wanted = (
        Wanted("sklearn", "scikit-learn", "1.5", certain=True, by="/home/a/sim.py", modules=("sklearn.svm",)),
        Wanted("local", "", "", certain=False),
    )
    assert read(stored(wanted)) == wanted
    assert [each.requirement for each in wanted] == ["scikit-learn==1.5", "local"]


def test_nothing_is_stored_of_nothing() -> None:
    assert stored(()) == b""
    assert read(b"") == ()
