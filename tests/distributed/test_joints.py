# SPDX-License-Identifier: Apache-2.0
"""Joints of the windows of a dataset: those that a walk over the text finds."""

import itertools
from argparse import Namespace

import numpy as np
import pytest
import sentencepiece
import torch
from transformers import AutoTokenizer

from e2_common.errors import UserError
from e2_llm.config import E2Config
from e2_llm.placements import PLACEMENTS
from megatron_patches.data import joints
from tests.distributed.corpus import write_dataset
from tests.distributed.windows import build
from tests.helpers.tiny_corpus import save_hugging_face, save_sentence_piece

WINDOW = 32
FIRST_COUNTED = 600  # ids from here on are what the loss mask lets count
ENDS = [7, 30, 500, 999]


@pytest.fixture
def corpus(tmp_path):
    """A dataset of documents of many lengths, and its loss mask."""
    random = np.random.RandomState(0)
    kinds = itertools.cycle([random.randint(1, 600), random.randint(600, 1000)] * 3 + ENDS)
    documents = []
    for length in (5, 70, 1, 33, 200, 64, 12, 90):
        own = zip(random.rand(length), random.randint(1, 1000, length), strict=True)
        documents.append(np.array([next(kinds) if share < 0.7 else other for share, other in own]))
    write_dataset(tmp_path / "text", documents)
    masks = [(document >= FIRST_COUNTED).astype(np.uint8) for document in documents]
    write_dataset(f"{tmp_path / 'text'}_loss_mask", masks, np.uint8)
    return tmp_path / "text", documents


def windows(*prefixes, **options):
    options = {"joints": ("sentences", "turns"), "sentence_ends": str(ENDS)} | options
    return build(*prefixes, window=WINDOW, **options)[0]


def received(window):
    """What a rank makes of a sample."""
    (found,) = joints.receive({joints.MARKS: window[joints.MARKS][None]}, (1, WINDOW))
    return {kind: indices.tolist() for kind, indices in found.items()}


@pytest.fixture(autouse=True)
def one_rank(monkeypatch):
    from megatron.core import mpu

    group = Namespace(size=lambda: 1)
    monkeypatch.setattr(mpu, "get_tensor_model_parallel_group", lambda: group)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: "cpu")


def pieces(dataset, index):
    """The documents of a window, from the dataset's own indices."""
    rows = dataset.shuffle_index[index]
    (first, begin), (last, end) = dataset.sample_index[rows], dataset.sample_index[rows + 1]
    for number in range(first, last + 1):
        text = dataset.dataset[dataset.document_index[number]]
        yield text[begin if number == first else 0 : end if number == last else None]


def test_joints_are_those_of_a_walk_over_the_tokens(corpus):
    prefix, _ = corpus
    dataset, kinds = windows(prefix).datasets[0], set()
    for index in range(len(dataset)):
        sentences, turns, place = [], [], 0
        for document in pieces(dataset, index):
            before = None
            for token in document:
                if place and (before is None or before in ENDS):
                    sentences.append(place)
                counts = token >= FIRST_COUNTED
                if place and (before is None or (before >= FIRST_COUNTED) != counts):
                    turns.append(place)
                kinds |= {"document"} if before is None and place else set()
                before, place = token, place + 1
        assert place == WINDOW
        assert received(dataset[index]) == {"sentences": sentences, "turns": turns}
        kinds |= {"several"} if len(sentences) > 1 and len(turns) > 1 else set()
    assert kinds == {"document", "several"}


def test_only_what_is_asked_for_is_marked(corpus):
    prefix, _ = corpus
    assert joints.MARKS not in windows(prefix, joints=(), sentence_ends=None)[0]
    both = received(windows(prefix)[3])
    for kind, other in itertools.permutations(("sentences", "turns")):
        assert received(windows(prefix, joints=(kind,))[3]) == {kind: both[kind], other: []}


def test_without_a_mask_only_documents_are_turns(corpus):
    prefix, _ = corpus
    (prefix.parent / "text_loss_mask.bin").unlink()
    (prefix.parent / "text_loss_mask.idx").unlink()
    dataset = windows(prefix).datasets[0]
    for index in range(10):
        ends = np.cumsum([len(document) for document in pieces(dataset, index)])
        assert received(dataset[index])["turns"] == [end for end in ends if end < WINDOW]


def test_a_window_that_fills_a_batch_up_has_no_joints(corpus):
    prefix, _ = corpus
    assert not windows(prefix).datasets[0][None][joints.MARKS].any()


@pytest.mark.parametrize("name", ["sentences", "turns", "plain:0.5,turns:0.5"])
def test_made_up_data_has_no_joints(name):
    config = E2Config(base_window=WINDOW, train_window=WINDOW, placement=name)
    with pytest.raises(UserError, match=f"^--e2-placement {name}: .*drop --mock-data$"):
        joints.check(Namespace(mock_data=True), config, [])
    plain = E2Config(base_window=WINDOW, train_window=WINDOW)
    assert joints.check(Namespace(mock_data=True), plain, []) is None


def test_a_tokenizer_that_turns_no_ids_into_text_is_refused():
    tokenizer = Namespace(unique_identifiers={"class": "mute"}, vocab_size=3)
    with pytest.raises(UserError, match="--e2-sentence-ends FILE"):
        joints.sentence_ends(tokenizer)
    assert joints.sentence_ends(tokenizer, "[1, 2]").tolist() == [1, 2]


def test_every_placement_has_its_kind_found():
    assert set(joints.KINDS) == {part.joints for part in PLACEMENTS.values()} - {None}


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        *((text, True) for text in (".", "!", "?", "。", "！", "？", " end.", ". ", "?\t", "...")),
        *((text, True) for text in ("\n", "\n\n", " \n", "word\n", ".\n", "\r\n")),
        *(
            (text, False)
            for text in ("", " ", "a", ".a", "\na", ",", ":", ";", "\t", "\ufffd", "!=")
        ),
    ],
)
def test_what_ends_a_sentence(text, ends):
    assert joints.ends_sentence(text) == ends


def tokenizer_of(kind, path):
    """Megatron's, as a run builds it."""
    from megatron.core.tokenizers import MegatronTokenizer

    return MegatronTokenizer.from_pretrained(tokenizer_path=path, metadata_path={"library": kind})


def test_the_tokens_are_those_whose_text_ends_a_sentence(tmp_path):
    """The libraries themselves say what the text of a token is."""
    folder = save_hugging_face(tmp_path / "hf", "<eos>")
    theirs = AutoTokenizer.from_pretrained(folder)
    texts = [theirs.decode([index]) for index in range(len(theirs))]
    ours = joints.sentence_ends(tokenizer_of("huggingface", folder)).tolist()
    assert ours == [index for index, text in enumerate(texts) if joints.ends_sentence(text)]
    assert {".", "\n"} <= {texts[index] for index in ours}

    model = save_sentence_piece(tmp_path / "sp", 2)
    theirs = sentencepiece.SentencePieceProcessor(model_file=model)
    texts = [theirs.decode([index]) for index in range(theirs.get_piece_size())]
    ours = joints.sentence_ends(tokenizer_of("sentencepiece", model)).tolist()
    assert ours == [index for index, text in enumerate(texts) if joints.ends_sentence(text)]
    assert "." in {texts[index] for index in ours}
