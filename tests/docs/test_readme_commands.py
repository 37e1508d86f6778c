"""``make docs-check``: the README's commands and its Python snippet, in reading order, for real.

Not part of ``make test``, whose tests call the same commands one by one. `pages` says what is
substituted and shortened.
"""

import pytest

from tests.docs.pages import PAGES, id_of, steps

pytestmark = [pytest.mark.docs, pytest.mark.slow]


@pytest.mark.parametrize("step", steps(PAGES[:1]), ids=id_of)
def test_it_runs(step, workspace):
    workspace.follow(step)
