# SPDX-License-Identifier: Apache-2.0
"""Megatron's tokenizers without the rest of Megatron, which is whole for whoever wants it later."""

import numpy as np
from megatron.core.datasets.indexed_dataset import DType

from e2_common.disk.indexed_dataset import token_type
from tests.distributed.corpus import make_tokenizer
from tests.helpers.commands import run_command

PROGRAM = """
import sys
from e2_tools.corpus.tokenizer import HUGGING_FACE, load_megatron_tokenizer
tokenizer = load_megatron_tokenizer(HUGGING_FACE, sys.argv[1])
before = tokenizer.encode("w1 w2")
assert not [name for name in sys.modules if name.startswith("megatron.core")]
import megatron
assert not hasattr(megatron, "core")
import megatron.core.tokenizers
assert megatron.core.parallel_state is megatron.core.mpu
assert megatron.core.tokenizers.MegatronTokenizer
assert tokenizer.encode("w1 w2") == before == load_megatron_tokenizer(
    HUGGING_FACE, sys.argv[1]
).encode("w1 w2")
assert megatron.core.__version__
"""


def test_a_tokenizer_leaves_the_package_whole(tmp_path):
    run_command("-W", "ignore", "-c", PROGRAM, make_tokenizer(tmp_path))


def test_the_type_of_tokens_is_megatrons():
    sizes = [1, 256, 32000, 49152, 65499, 65500, 65536, 128256]
    assert [token_type(size) for size in sizes] == [DType.optimal_dtype(size) for size in sizes]
    assert token_type(65499) is np.uint16
