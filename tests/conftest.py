"""Tiny language models of random weights, and a delivery server on loopback for real clients to talk to."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers: a test that reaches for the network is to fail
os.environ["OMP_NUM_THREADS"] = "1"  # of processes that tests start too: tiny tensors gain nothing from more
if "PYTEST_XDIST_WORKER" not in os.environ:  # what is remembered of models is nobody's but this run's
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="promptferry-cache-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from coordinator.delivery.enrolment import Enrolment
from coordinator.delivery.server import DeliveryServer
from coordinator.delivery.service import Limits
from coordinator.home import pki
from coordinator.home.pki import PkiPaths
from coordinator.store.records import PromptVersion, ProxyRecord
from coordinator.store.store import Store
from transfer.files.atomic import FileRef
from transfer.model_ref import ModelRef
from transfer.peft_directory import PeftDirectory
from transfer.post.settings import TransferSettings
from transfer.prompt import SoftPrompt
from transfer.protocol.signing import (
    PROMPT_PREDICATE,
    PROXY_PREDICATE,
    STATEMENT_TYPE,
    Envelope,
    sign,
    statement,
)
from transfer.protocol.statement import ModelV1, ProxyStatement
from transfer.tasks import Label, Task

pytest_plugins = ["tests.promises", "tests.families.table"]
VOCABULARY = 400
LINES = (
    "The film was great and the actors were good. It was fun.",
    "A terrible plot, a bad ending and a boring evening. It was awful.",
    "We liked the music, the food and the long walk home.",
    "Nobody liked the weather, the noise or the slow train.",
    "The match was won in the last minute by a young team.",
    "The bank raised its rates and the market fell again.",
    "A sentence about a review says whether it was great or terrible, good or bad.",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that name their minutes, longest first: no worker is left alone with one at the end."""
    items.sort(
        key=lambda item: (
            -max((mark.kwargs.get("minutes", 0) for mark in item.iter_markers("slow")), default=0)
        )
    )


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data sets."""
    if "PROMPTFERRY_ASSETS" not in os.environ:
        pytest.skip("PROMPTFERRY_ASSETS is unset: no real models to load")
    return Path(os.environ["PROMPTFERRY_ASSETS"])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """One torch thread: tiny tensors gain nothing from more, and test processes share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random Llama: 2 layers, hidden size 32, byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(LINES * 20, trainer)
    tokens = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    return _saved(LlamaForCausalLM(config), tokenizer, tokens, tmp_path_factory.mktemp("tiny-causal") / "lm")


@pytest.fixture(scope="session")
def tiny_masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random BERT: 2 layers, hidden size 32, WordPiece."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special)
    tokenizer.train_from_iterator(LINES * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True)
    )
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return _saved(BertForMaskedLM(config), tokenizer, tokens, tmp_path_factory.mktemp("tiny-masked") / "lm")


@pytest.fixture(scope="session")
def tiny_encoder(tiny_masked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the BERT alone, without LM head and with a pooler, as sentence embedders are published."""
    directory = tmp_path_factory.mktemp("tiny-encoder") / "lm"
    torch.manual_seed(4)  # the pooler's
    BertModel.from_pretrained(tiny_masked).save_pretrained(directory)
    PreTrainedTokenizerFast.from_pretrained(tiny_masked).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_task() -> Task:
    """Two classes whose label words are one token each for both tiny tokenisers."""
    labels = (Label("positive", ("great", "good")), Label("negative", ("terrible", "bad")))
    return Task("reviews", "{text} It was {answer}", labels, "A sentence about a review", max_tokens=32)


def _saved(model: PreTrainedModel, tokenizer: Tokenizer, tokens: dict[str, str], directory: Path) -> Path:
    model.save_pretrained(directory)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens).save_pretrained(directory)
    return directory


@dataclass
class Delivery:
    """A coordinator's delivery server over TLS and an SQLite store, and what its publisher signs."""

    directory: Path
    paths: PkiPaths
    store: Store
    server: DeliveryServer
    port: int
    task: Task

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def publish(
        self,
        prompt: str,
        target: ModelRef,
        vectors: torch.Tensor,
        *,
        forge: Callable[[dict[str, Any]], object] = lambda _predicate: None,
        tamper: Callable[[dict[str, bytes]], object] = lambda _files: None,
        key: object = None,
        head_rows: int = 0,
    ) -> PromptVersion:
        """Publish a prompt; `forge` changes what is signed, `tamper` the files after they were signed."""

        def build(version: int) -> tuple[Envelope, Mapping[str, bytes]]:
            soft = SoftPrompt(vectors, target)
            told = predicate(prompt, version, target, self.task)
            forge(told)
            files = PeftDirectory.of(soft, head_rows).to_files(
                told["lm_head"], told["task"].get("prompt_at", "start")
            )
            digests = {name: FileRef.of_bytes(name, content).digest for name, content in files.items()}
            tamper(files)
            signer = key or pki.load_publisher(self.paths.publisher_key)
            return sign(statement(digests, PROMPT_PREDICATE, told), STATEMENT_TYPE, signer), files

        return self.store.publish(prompt, build)

    def add_proxy(self, name: str, directory: Path, **told: object) -> ProxyRecord:
        """Offer a model directory as a proxy of itself."""
        model = ModelRef.of_directory(name, directory)
        files = tuple(FileRef.of_file(path) for path in sorted(directory.iterdir()))
        stated = ProxyStatement(
            proxy=ModelV1.of(model),
            parent=ModelV1.of(model),
            layers=(0, 1),
            steps=0,
            held_out_kl=0.0,
            held_out_perplexity=None,
            target_perplexity=None,
        )
        said = {**stated.to_predicate(), **told}
        signed = statement({file.path: file.digest for file in files}, PROXY_PREDICATE, said)
        envelope = sign(signed, STATEMENT_TYPE, pki.load_publisher(self.paths.publisher_key))
        record = ProxyRecord(name, model, model, (0, 1), files, directory, envelope)
        self.store.add_proxy(record)
        return record


def predicate(prompt: str, version: int, target: ModelRef, task: Task) -> dict[str, Any]:
    """What a coordinator says of a published prompt."""
    costs = [
        {"client": client, "rounds": 3, "epsilon": epsilon, "delta": delta}
        | {"lifetime_epsilon": epsilon, "lifetime_delta": delta}
        for client, epsilon, delta in (("clinic-a", 3.9, 1e-6), ("b", 2.5, 1e-7))
    ]
    spend = {"noise_multiplier": 2.0, "sample_rate": 0.5, "steps": 10, "unit": "record", "clip_norm": 1.0}
    names = [f"campaigns/first/rounds/{number}" for number in (1, 2, 3)]
    digests = {"start": "d" * 64, "prompt": "e" * 64}
    who = {"strategy": "mean", "counted": ["clinic-a", "b"], "dropped": []}
    return {
        "prompt": prompt,
        "version": version,
        "task": {**asdict(task), "labels": [asdict(label) for label in task.labels]},
        "target": asdict(target),
        "proxy": {"name": "proxy", "digest": "c" * 64},
        "lm_head": "causal",
        "campaign": "first",
        "rounds": 3,
        "lineage": {
            "start": {"length": 4, "init": "text"},
            "rounds": [{"name": name, **digests, **who} for name in names],
            "public_text": {"sha256": "f" * 64, "texts": 48},
            "transfer": {**asdict(TransferSettings()), "best_step": 50},
            "held_out_loss": {"transferred": 0.1, "start": 0.2},
        },
        "privacy": {
            "unit": "record",
            "adjacency": "add/remove one",
            "epsilon": 3.9,
            "delta": 1e-6,
            "accountant": "PRV",
            "sampling": "Poisson",
            "noise": "discretised Gaussian, AES-256-CTR",
            "per_round": spend,
            "clients": costs,
            "not_private": ["participation", "label names"],
        },
    }


@pytest.fixture(scope="session")
def head_task(tiny_task: Task) -> Task:
    """The same classes without words: a head reads them."""
    labels = tuple(Label(label.name, ()) for label in tiny_task.labels)
    return replace(tiny_task, template="{text}", labels=labels, label_reading="head")


@pytest.fixture(scope="session")
def say() -> Callable[[str, int, ModelRef, Task], dict[str, Any]]:
    """What a coordinator says of a published prompt, to be changed and signed."""
    return predicate


@pytest.fixture(scope="session")
def pki_paths(tmp_path_factory: pytest.TempPathFactory) -> PkiPaths:
    """Keys and certificates of one coordinator."""
    paths = PkiPaths.under(tmp_path_factory.mktemp("keys"))
    pki.create(paths)
    return paths


@pytest.fixture
def delivery(tmp_path: Path, pki_paths: PkiPaths, tiny_task: Task) -> Iterator[Delivery]:
    """A running delivery server; Flower is told of no node."""
    store = Store.open(f"sqlite:///{tmp_path}/store.db")
    enrolment = Enrolment(store, lambda _key, _name: 7, "127.0.0.1:9191")
    limits = Limits(unary_s=5.0, stall_s=0.5)
    server = DeliveryServer(store, "127.0.0.1", 0, pki_paths, enrolment, tmp_path / "served", limits)
    yield Delivery(tmp_path, pki_paths, store, server, server.start(), tiny_task)
    server.stop(0.0)
    store.close()
