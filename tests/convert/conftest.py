import pytest
from golden import reference


@pytest.fixture(scope="session")
def tiny():
    """The variables of the tiny network, ten classes."""
    return reference.official_variables(reference.TINY, 10)
