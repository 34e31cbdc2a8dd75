"""Rayline: raw text to a compressed language model behind an endpoint, on Ray."""

import logging

# transformers imports torchao, which warns of kernels that this CPU has no use for, and torch of
# torchao's enums: four lines for each process that loads a model.
for _noisy in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)
