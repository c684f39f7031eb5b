# SPDX-License-Identifier: Apache-2.0
"""Megatron's tokenizers without torch and the rest of it, both whole for those who want them."""

import json

import numpy as np
import pytest
from megatron.core.datasets.indexed_dataset import DType

from e2_common.disk.indexed_dataset import token_type
from tests.helpers.commands import run_command
from tests.helpers.tiny_corpus import (
    HUGGING_FACE,
    SENTENCE_PIECE,
    TEXTS,
    save_hugging_face,
    save_sentence_piece,
)
from tests.tools.corpus.test_tiktoken import TIKTOKEN, save_tiktoken

# Three kinds, first without torch and Megatron, then with all of both.
PROGRAM = """
import json, sys
from e2_tools.corpus import light_import
from e2_tools.corpus.tiktoken import TiktokenOptions
from e2_tools.corpus.tokenizer import load_megatron_tokenizer
kinds, texts = json.load(sys.stdin)

def facts(kind, path):
    tokenizer = load_megatron_tokenizer(kind, path, TiktokenOptions(vocab_size=1300))
    ids = [tokenizer.encode(text) for text in texts]
    return ids, [tokenizer.decode(each) for each in ids], tokenizer.eod, tokenizer.vocab_size

def there():
    return [name for name in sys.modules if f"{name}.".startswith(light_import.LEFT_OUT)]

light = [facts(*kind) for kind in kinds]
assert not there(), there()
import megatron
assert not hasattr(megatron, "core")
import torch, transformers, megatron.core.tokenizers
assert torch.zeros(2).sum() == 0
assert transformers.utils.is_torch_available() and transformers.LlamaForCausalLM.forward
assert megatron.core.parallel_state is megatron.core.mpu
assert megatron.core.tokenizers.MegatronTokenizer and megatron.core.__version__
assert light == [facts(*kind) for kind in kinds]
"""


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    return [
        [HUGGING_FACE, save_hugging_face(folder / "bpe", eos="<eos>", begin=True)],
        [SENTENCE_PIECE, save_sentence_piece(folder / "pieces", eos_id=2)],
        [TIKTOKEN, save_tiktoken(folder / "vocab.json")[0]],
    ]


def run(program, kinds):
    run_command("-W", "ignore", "-c", program, stdin=json.dumps([kinds, TEXTS]))


def test_tokenizers_are_the_same_and_leave_all_packages_whole(kinds):
    run(PROGRAM, kinds)


def test_where_a_stand_in_lacks_something_the_real_ones_are_taken(kinds):
    """As of another release of Megatron, whose tokenizers import more."""
    empty = "light_import._utils = lambda: type(sys)('nothing')\n"
    begin = PROGRAM.index("light = ")
    load = "assert load_megatron_tokenizer(*kinds[0]).encode(texts[0])\nassert there()"
    run(PROGRAM[:begin] + empty + load, kinds)


def test_the_type_of_tokens_is_megatrons():
    sizes = [1, 256, 32000, 49152, 65499, 65500, 65536, 128256]
    assert [token_type(size) for size in sizes] == [DType.optimal_dtype(size) for size in sizes]
    assert token_type(65499) is np.uint16
