"""What a transfer over the vocabulary loses where its constant answers are stored in fewer bytes.

    python -m tests.benchmarks.references --model DIR --task FILE --train FILE --public FILE --test FILE

Constants of N texts are 4·N·V bytes each in float32, and there are three at α > 0. They are stored in float32, in
float16 or bfloat16, or as the k likeliest tokens and the mass of the rest. Then the KL is that of k + 1 events. The
shift of the target (L2) would need all of its bare logits for that mass, so there only the k tokens are compared.
Each transfer starts from the same prompt, of a proxy tuned without noise. Its result is judged by the KL over the
whole vocabulary in float32 on held-out public text, and by accuracy on labelled text.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer

from client.private.dpsgd import tune
from client.private.records import PrivateRecords, read
from tests.benchmarks.quality_federation import Seeded, taken
from transfer.distillation.distil import DistilSettings, distil
from transfer.distillation.layers import spread
from transfer.files.public_text import read_texts
from transfer.models.loading import load
from transfer.models.objectives import divergences, transfer_losses
from transfer.placement.devices import name_of
from transfer.post.descent import descend
from transfer.post.evaluation import accuracy
from transfer.post.problem import Losses, Problem
from transfer.post.settings import TransferSettings
from transfer.privacy import Spend
from transfer.protocol.rounds import Tuning
from transfer.tasks import Task

T = 2.0
Constants = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""z_t^0, z_s^p and z_s^0, each [N, V]."""


def in_dtype(dtype: torch.dtype, constants: Constants, alpha: float) -> Losses:
    """Compare all V logits, stored in `dtype`."""
    bare, prompted, unprompted = (each.to(dtype).float() for each in constants)

    def losses(logits: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        index = list(chosen)
        return transfer_losses(
            logits, bare[index], prompted[index], unprompted[index], alpha=alpha, temperature=T
        )

    return losses


def likeliest(k: int, constants: Constants, alpha: float) -> Losses:
    """Compare the k likeliest tokens and the rest of L1, and the k tokens alone of L2."""
    bare, prompted, unprompted = constants
    first, places = (prompted / T).log_softmax(dim=1).topk(k)  # [N, k]
    shifts, moved = (prompted - unprompted).topk(k)
    before = bare.gather(1, moved)

    def losses(logits: torch.Tensor, chosen: Sequence[int]) -> torch.Tensor:
        index = list(chosen)
        ours = (logits / T).log_softmax(dim=1).gather(1, places[index])
        imitate = divergences(_with_rest(first[index]) * T, _with_rest(ours) * T, T)
        now = logits.gather(1, moved[index]) - before[index]
        return (1 - alpha) * imitate + alpha * divergences(shifts[index], now, T)

    return losses


def _with_rest(chances: torch.Tensor) -> torch.Tensor:
    """Append the logarithm of what log-probabilities [N, k] leave to the rest."""
    rest = (1 - chances.exp().sum(dim=1, keepdim=True)).clamp_min(1e-12).log()
    return torch.cat([chances, rest], dim=1)


def stores(vocabulary: int) -> dict[str, tuple[float, Callable[[Constants, float], Losses]]]:
    """Bytes of a row, all three constants, and the losses of each way to store them."""
    whole: dict[str, tuple[float, Callable[[Constants, float], Losses]]] = {
        name_of(dtype): (
            3 * vocabulary * dtype.itemsize,
            lambda constants, alpha, dtype=dtype: in_dtype(dtype, constants, alpha),
        )
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    }
    return whole | {
        f"top {k}": (3 * k * 8, lambda constants, alpha, k=k: likeliest(k, constants, alpha))
        for k in (64, 256)
    }


def main(
    model: Annotated[Path, typer.Option(help="Directory of the target.")],
    task: Annotated[Path, typer.Option(help="Task file.")],
    train: Annotated[Path, typer.Option(help="Labelled records.")],
    public: Annotated[Path, typer.Option(help="Public text.")],
    test: Annotated[Path, typer.Option(help="Labelled records to measure on.")],
    steps: Annotated[int, typer.Option(help="Steps of a transfer.")] = 300,
    texts: Annotated[int, typer.Option(help="Public texts.")] = 600,
) -> None:
    """Print one line of JSON for each α and each way to store the constants."""
    asked, target, words = Task.from_toml(task), load(model), read_texts(public)[:texts]
    proxy = distil(
        target, spread(target.layers // 2, target.layers), words, DistilSettings(steps=60, batch_tokens=512)
    ).model
    records, tested = (_first(read(path, asked.label_names), 1000) for path in (train, test))
    tuning = Tuning(Spend(0.0, 0.064, 60), 1.0, 0.05)
    start = proxy.text_prompt(asked.init_text, 20)
    prompt = tune(proxy, records, asked, start, tuning, declared_units=1000, randomness=Seeded(0))
    lines, own = target.encoder(asked).encode(words), proxy.encoder(asked).encode(words)
    constants = (target.answer_logits(lines), proxy.answer_logits(own, prompt), proxy.answer_logits(own))
    for alpha in (0.0, 0.5):
        settings = TransferSettings(alpha=alpha, steps=steps, space="vocabulary")
        judge = Problem.over(target, lines, None, in_dtype(torch.float32, constants, alpha), settings)
        for name, (size, losses) in stores(len(target.embedding)).items():
            begun = time.process_time()
            problem = Problem.over(target, lines, None, losses(constants, alpha), settings)
            found = descend(problem, prompt, steps).prompt
            told = {
                "model": model.name, "task": asked.name, "alpha": alpha, "stored": name,
                "bytes_a_text": size if alpha else size / 3,
                "kl": round(judge.held_out_loss(found.vectors), 4),
                "accuracy": round(100 * accuracy(target, asked, tested.texts, tested.labels, found).micro, 1),
                "cpu_s": round(time.process_time() - begun, 1),
            }  # fmt: skip
            print(json.dumps(told), flush=True)
    print(
        json.dumps(
            {"proxy": round(100 * accuracy(proxy, asked, tested.texts, tested.labels, prompt).micro, 1)}
        )
    )


def _first(records: PrivateRecords, most: int) -> PrivateRecords:
    return taken(records, range(min(most, len(records.texts))))


if __name__ == "__main__":
    typer.run(main)
