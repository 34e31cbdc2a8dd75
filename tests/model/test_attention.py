"""docs/attention.md computes what the model classes in use compute: its own code is what is run.

Each check runs a whole model, keeps what went into and came out of one attention module, and
evaluates the page's function on that module's weights. Both are in double precision where the class
is; rotary angles and norms are float32 inside it, hence the tolerance.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipelines.model.build import Vocabulary, build
from pipelines.model.config import FAMILIES, ModelConfig

PAGE = Path(__file__).parents[2] / "docs" / "attention.md"
LENGTH, REAL = 80, 71  # longer than ModernBERT's window; a padded row
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
KERNELS = pytest.mark.parametrize("kernel", ["eager", "sdpa"])
# The functions that tests below compare with a class, directly or inside one of these.
MODELS = {"bert", "modernbert", "llama", "qwen3", "t5", "bart"}
PARTS = {
    *("project", "softmax", "attend", "join", "masked", "padding", "causal", "document"),
    *("window", "share", "rotate", "rms_norm", "bucket", "relative"),
}


@pytest.fixture(scope="module")
def page():
    """The functions that the page defines."""
    names = {"np": np}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(code, names)
    return SimpleNamespace(**{name: it for name, it in names.items() if callable(it)})


def test_the_page_has_the_formulas_that_are_checked_and_no_others(page):
    assert set(vars(page)) == MODELS | PARTS
    assert set(FAMILIES) == MODELS


def test_every_formula_is_evaluated_by_a_model(page):
    code = {name: set(getattr(page, name).__code__.co_names) for name in MODELS | PARTS}
    reached = set(MODELS)
    for _ in PARTS:
        reached |= {name for known in reached for name in code[known] if name in PARTS}
    given_by_tests = {"masked", "padding", "causal", "document", "window", "bucket", "relative"}
    assert reached | given_by_tests == MODELS | PARTS


class Seen:
    """A model in double precision, and what one run of it sends through its modules."""

    def __init__(self, architecture, kernel, **more):
        shape = ModelConfig.model_validate(f"{architecture}-nano").model_copy(update=more)
        self.model = build(shape, Vocabulary(99, 0, 1, 2, 3), None, seed=0).double().eval()
        self.model.set_attn_implementation(kernel)
        torch.manual_seed(1)
        with torch.no_grad():  # biases of 0 and gains of 1 would leave them unchecked
            for parameter in self.model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
        self.heads, self.kv_heads = shape.heads, shape.kv_heads

    def run(self, *modules, **given):
        """(first input, output, other inputs) of each module named, of the last row."""
        found = {}

        def keep(name):
            def hook(module, args, kwargs, output):
                first = args[0] if args else kwargs["hidden_states"]
                found[name] = (first, output[0] if isinstance(output, tuple) else output, kwargs)

            return hook

        handles = [
            self.model.get_submodule(name).register_forward_hook(keep(name), with_kwargs=True)
            for name in modules
        ]
        with torch.inference_mode():
            self.model(**given)
        for handle in handles:
            handle.remove()
        return [found[name] for name in modules]

    def weights(self, module):
        state = self.model.get_submodule(module).state_dict()
        return {name: tensor.numpy() for name, tensor in state.items()}


def ids(seed=0, length=LENGTH):
    return torch.randint(5, 99, (2, length), generator=torch.Generator().manual_seed(seed))


def padded():
    """Two rows of which the second ends in padding, and where its tokens are."""
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    mask[1, REAL:] = 0
    return mask, mask[1].numpy().astype(bool)


def compare(found_TD, expected_BTD, real=None):
    expected = expected_BTD[-1].numpy()
    rows = slice(None) if real is None else real
    np.testing.assert_allclose(found_TD[rows], expected[rows], **CLOSE)


@KERNELS
def test_bert(page, kernel):
    seen, (mask, real) = Seen("bert", kernel), padded()
    path = "bert.encoder.layer.1.attention"
    (x, _, _), (_, y, _) = seen.run(
        f"{path}.self", f"{path}.output.dense", input_ids=ids(), attention_mask=mask
    )
    found = page.bert(x[-1].numpy(), seen.weights(path), seen.heads, page.padding(real))
    compare(found, y, real)


@KERNELS
@pytest.mark.parametrize("layer", [0, 1])  # sees all, sees a window
def test_modernbert(page, kernel, layer):
    seen, (mask, real) = Seen("modernbert", kernel), padded()
    path = f"model.layers.{layer}.attn"
    ((x, y, _),) = seen.run(path, input_ids=ids(), attention_mask=mask)
    allowed, base = page.padding(real), 160_000
    if layer:
        allowed, base = allowed + page.window(LENGTH, 64), 10_000
    places = np.arange(LENGTH)
    found = page.modernbert(x[-1].numpy(), seen.weights(path), seen.heads, allowed, places, base)
    compare(found, y, real)


@KERNELS
@pytest.mark.parametrize(("architecture", "base"), [("llama", 1e4), ("qwen3", 1e6)])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_decoders_with_grouped_queries(page, kernel, architecture, base, kv_heads):
    seen, (mask, real) = Seen(architecture, kernel, kv_heads=kv_heads), padded()
    path = "model.layers.1.self_attn"
    ((x, y, _),) = seen.run(path, input_ids=ids(), attention_mask=mask)
    allowed = page.causal(LENGTH) + page.padding(real)
    weights, places = seen.weights(path), np.arange(LENGTH)
    formula = getattr(page, architecture)
    found = formula(x[-1].numpy(), weights, seen.heads, kv_heads, allowed, places, base)
    compare(found, y, real)


@KERNELS
def test_documents_packed_in_a_decoders_row(page, kernel):
    """Positions that begin anew are all the class is told of documents."""
    seen = Seen("llama", kernel)
    documents = np.repeat([0, 1, 2], [30, 10, 40])
    places = np.concatenate([np.arange(30), np.arange(10), np.arange(40)])
    path = "model.layers.1.self_attn"
    positions = torch.from_numpy(places)[None]
    ((x, y, _),) = seen.run(path, input_ids=ids()[:1], position_ids=positions, use_cache=False)
    allowed = page.causal(LENGTH) + page.document(documents)
    weights = seen.weights(path)
    found = page.llama(x[-1].numpy(), weights, seen.heads, seen.kv_heads, allowed, places, 1e4)
    compare(found, y)


@KERNELS
@pytest.mark.parametrize("layer", [0, 1])  # the second uses the first one's table
def test_t5(page, kernel, layer):
    seen, (mask, real) = Seen("t5", kernel), padded()
    read, write = f"encoder.block.{layer}.layer.0", f"decoder.block.{layer}.layer"
    paths = [
        f"{read}.SelfAttention",
        f"{write}.0.SelfAttention",
        f"{write}.1.EncDecAttention",
    ]
    given = {"input_ids": ids(), "attention_mask": mask, "decoder_input_ids": ids(7, 9)}
    encoder, decoder, cross = seen.run(*paths, **given)
    tables = [
        seen.weights(f"{half}.block.0.layer.0.SelfAttention")["relative_attention_bias.weight"]
        for half in ("encoder", "decoder")
    ]

    def formula(path, x, source, mask, bias):
        return page.t5(x[-1].numpy(), source[-1].numpy(), seen.weights(path), 4, mask, bias)

    both_ways = page.relative(tables[0], LENGTH, both_ways=True)
    found = formula(paths[0], encoder[0], encoder[0], page.padding(real), both_ways)
    compare(found, encoder[1], real)
    back = page.relative(tables[1], 9, both_ways=False)
    compare(formula(paths[1], decoder[0], decoder[0], page.causal(9), back), decoder[1])
    source = cross[2]["key_value_states"]
    compare(formula(paths[2], cross[0], source, page.padding(real), 0), cross[1])


@KERNELS
def test_bart(page, kernel):
    seen, (mask, real) = Seen("bart", kernel), padded()
    decoder = "model.decoder.layers.1"
    paths = [
        "model.encoder.layers.1.self_attn",
        f"{decoder}.self_attn",
        f"{decoder}.encoder_attn",
    ]
    given = {"input_ids": ids(), "attention_mask": mask, "decoder_input_ids": ids(7, 9)}
    masks = [page.padding(real), page.causal(9), page.padding(real)]
    for path, kept, allowed in zip(paths, seen.run(*paths, **given), masks, strict=True):
        x, y, more = kept
        source = more.get("key_value_states")
        source = x if source is None else source
        pair = x[-1].numpy(), source[-1].numpy()
        found = page.bart(*pair, seen.weights(path), seen.heads, allowed)
        compare(found, y, real if path == paths[0] else None)


@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_are_t5s_own_at_every_distance(page, both_ways):
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = np.arange(-600, 601)
    own = T5Attention._relative_position_bucket(torch.from_numpy(distance), both_ways, 32, 128)
    np.testing.assert_array_equal(page.bucket(distance, both_ways), own.numpy())


def test_a_changed_formula_would_be_noticed(page):
    """The page's scale wrong by a factor is far outside the tolerance."""
    seen = Seen("bert", "eager")
    path = "bert.encoder.layer.1.attention"
    (x, _, _), (_, y, _) = seen.run(f"{path}.self", f"{path}.output.dense", input_ids=ids())
    weights = seen.weights(path)
    weights["self.query.weight"] = weights["self.query.weight"] * 1.01
    found = page.bert(x[-1].numpy(), weights, seen.heads, 0)
    assert np.abs(found - y[-1].numpy()).max() > 100 * CLOSE["atol"]
