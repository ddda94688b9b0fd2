"""Values as bytes. (How functions travel is in test_serialisation.py.)"""

import pickle
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
