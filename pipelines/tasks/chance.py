"""(seed, epoch, row) -> a generator: what is drawn for a row depends on nothing else.

Not on the process, on the number of workers, on rows drawn before, or on a restart; so no
generator's state is ever kept.
"""

import numpy as np

ROWS = 1 << 40  # more than any epoch has


def generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    """Draws for row `row` as it is seen in `epoch`."""
    # From epoch 1 on, because the data order has the keys (seed, epoch) to itself.
    key = np.array([seed, (epoch + 1) * ROWS + row], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
