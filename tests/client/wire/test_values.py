"""Values as bytes. (How functions travel is in test_serialisation.py.)"""

import io
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheepdog import client


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_values_come_back(value: Any) -> None:
    assert pickle.loads(client.dump(value)) == value


def test_what_cannot_be_pickled_is_said_by_cloudpickle() -> None:
    with pytest.raises(TypeError, match="cannot pickle 'generator' object"):
        client.dump(iter(x for x in ""))


def test_plain_data_needs_no_cloudpickle_whatever_bytes_it_has() -> None:
    """The byte of the opcode that names a class is in most binary data, too."""
    code = (
        "import pickle, sys; from sheepdog import client\n"
        r"data = [b'\x93' * 9, '\u04d3', (b'\x93', {'a': [-1.2785435e-05, b'\x93']}, {b'\x93'}, frozenset(b'\x93'))]"
        "\nassert client.dump(data) == pickle.dumps(data, 4) and 'cloudpickle' not in sys.modules\n"
        "client.dump([b'\\x93', abs]); assert 'cloudpickle' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_pickler_is_taught_once() -> None:
    first, second = client.make_pickler(io.BytesIO()), client.make_pickler(io.BytesIO())
    assert type(first) is type(second)
