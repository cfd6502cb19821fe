"""One training loop for every stage: schedule, logging, curves, resumable state."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from duplex.core.errors import ConfigError
from duplex.train.precision import product_dtype, quick_products

LOG_EVERY = 20  # steps between two rows of the log
AVERAGED_AT_FIRST = 10  # steps that the mean of the weights begins with
SAVE_EVERY_SEC = 120.0


@dataclass(frozen=True)
class LoopOptions:
    """How long and how fast to train. `warmup` and `floor` shape a cosine schedule of the learning rate."""

    steps: int
    learning_rate: float
    warmup: int = 200
    floor: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    bf16: bool = True  # where that is quicker
    matrix_rate: float = 0.0  # learning rate of hidden matrices under Muon; 0 leaves them to AdamW
    slow_parts: tuple[str, ...] = ()  # modules, by the start of their name, that AdamW moves
    slow_share: float = 0.05  # at this share of the learning rate
    averaging: float = 0.0  # decay of the mean of the weights that is scored and exported; 0: the last weights are


def share_at(step: int, options: LoopOptions) -> float:
    """Share of the peak learning rate at `step`: linear warm-up, then a cosine down to `floor`."""
    if step < options.warmup:
        return (step + 1) / options.warmup
    progress = min(1.0, (step - options.warmup) / max(1, options.steps - options.warmup))
    return options.floor + (1 - options.floor) * 0.5 * (1 + math.cos(math.pi * progress))


_MUON_MOMENTUM = 0.95
_NEWTON_SCHULZ = ((3.4445, -4.7750, 2.0315),) * 5  # of a polynomial whose slope at zero is steep


class _Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) with Nesterov momentum, all matrices of one shape in one product.

    Takes the steps and keeps the state of torch.optim.Muon, which goes through the matrices one by one: a GPU would
    spend most of a small model's training step starting its kernels.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], rate: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in by_shape.items():
                grads = [cast(Tensor, matrix.grad) for matrix in matrices]
                for matrix, grad in zip(matrices, grads, strict=True):
                    self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(grad))
                momenta = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
                torch._foreach_lerp_(momenta, grads, 1.0 - _MUON_MOMENTUM)
                directions = _orthogonal(torch.stack(torch._foreach_lerp(grads, momenta, _MUON_MOMENTUM)))
                values = [matrix.detach() for matrix in matrices]
                torch._foreach_mul_(values, 1.0 - group["lr"] * group["weight_decay"])
                rate = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
                torch._foreach_add_(values, list(directions.to(values[0].dtype)), alpha=-rate)


def _orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest matrices [n, rows, columns] with singular values of one, in the quickest precision."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(product_dtype(matrices.device))
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for a, b, c in _NEWTON_SCHULZ:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class _Optimizers:
    """AdamW, and Muon for the matrices inside of blocks where asked for."""

    def __init__(self, module: nn.Module, options: LoopOptions) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in named]
        slow = [p for name, p in named if name.startswith(options.slow_parts)] if options.slow_parts else []
        chosen = {id(p) for p in slow}
        matrices = [
            p for name, p in named if options.matrix_rate and _is_hidden_matrix(name, p) and id(p) not in chosen
        ]
        chosen |= {id(p) for p in matrices}
        rest = [p for p in self.parameters if id(p) not in chosen]
        groups = [
            {"params": [p for p in part if (p.dim() > 1) == wide], "weight_decay": decay, "share": share}
            for part, share in ((rest, 1.0), *([(slow, options.slow_share)] if slow else []))
            for wide, decay in ((True, options.weight_decay), (False, 0.0))
        ]
        self.optimizers: list[tuple[float, torch.optim.Optimizer]] = [
            (options.learning_rate, torch.optim.AdamW(groups, options.learning_rate, options.betas, fused=True))
        ]
        if matrices:
            muon = _Muon(matrices, options.matrix_rate, options.weight_decay)
            self.optimizers.append((options.matrix_rate, muon))

    def set_rate(self, share: float) -> None:
        """Scale every peak learning rate by `share`."""
        for peak, optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * share * group.get("share", 1.0)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for _, optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One update of everything."""
        for _, optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> list[Any]:
        """State of each optimizer."""
        return [optimizer.state_dict() for _, optimizer in self.optimizers]

    def load_state_dict(self, states: list[Any]) -> None:
        """What state_dict returned."""
        for (_, optimizer), state in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


class _Average:
    """The exponential mean of a module's trained weights (Polyak and Juditsky 1992), short at first."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._named = {name: p for name, p in module.named_parameters() if p.requires_grad} if decay else {}
        self._mean = {name: p.detach().clone() for name, p in self._named.items()}
        names = {id(p): name for name, p in self._named.items()}
        every = module.named_parameters(remove_duplicate=False) if decay else ()
        self._tied = {other: names[id(p)] for other, p in every if id(p) in names and other not in self._named}
        self._decay = decay
        self._updates = 0

    def update(self) -> None:
        """Take the weights after one step into account."""
        self._updates += 1
        decay = min(self._decay, self._updates / (self._updates + AVERAGED_AT_FIRST))
        if self._named:
            torch._foreach_lerp_(list(self._mean.values()), [p.detach() for p in self._named.values()], 1.0 - decay)

    def swap(self) -> None:
        """Exchange the module's weights for their mean, or back."""
        for name, parameter in self._named.items():
            parameter.data, self._mean[name] = self._mean[name], parameter.data

    def state(self) -> dict[str, Tensor]:
        """The mean, by the names of the weights; of tied ones by each."""
        return self._mean | {other: self._mean[name] for other, name in self._tied.items()}

    def load(self, mean: dict[str, Tensor], updates: int) -> None:
        """Go on from a mean that so many steps went into; of weights that it lacks, from the present ones."""
        for name, parameter in self._named.items():
            self._mean[name].copy_(mean.get(name, parameter.detach()))
        self._updates = updates if mean else 0


_NO_MATRICES = ("embed", "head", "bias")  # parts of the names of what is no matrix between two hidden layers


def _is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    inside = bool(re.search(r"\.\d+\.", name))
    return parameter.dim() == 2 and inside and not any(part in name for part in _NO_MATRICES)


def fresh(module: object) -> None:
    """Begin with the weights the module was made with."""


def trained_weights(state_file: Path) -> dict[str, Tensor]:
    """What a stage leaves behind: its module's state, with the mean of the weights where it kept one."""
    state = torch.load(state_file, map_location="cpu", weights_only=True)
    weights: dict[str, Tensor] = {**state["module"], **state.get("averaged", {})}
    return weights


def steps_done(folder: Path) -> int:
    """Steps of a stage so far, 0 before its first state."""
    state_file = folder / "state.pt"
    return int(torch.load(state_file, map_location="cpu", weights_only=True)["step"]) if state_file.exists() else 0


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Where no other process trains in `folder`, which is made. Raises ConfigError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{folder}: another process trains here") from error
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # also for workers that were forked meanwhile


def train(
    name: str,
    module: nn.Module,
    batches: Iterator[object],
    loss_of: Callable[[object], dict[str, Tensor]],
    folder: Path,
    options: LoopOptions,
    *,
    device: str = "cpu",
    evaluate: Callable[[], dict[str, float]] | None = None,
    evaluate_every: int = 0,
) -> None:
    """Minimise `loss_of(batch)["loss"]` over the trainable parameters of `module`.

    Goes on from `folder/state.pt` when it exists; writes that file every two minutes, `log.csv` and `curve.png`.
    Leaves the module with its last weights, or with their mean where `options.averaging` asks for it.
    A step whose loss or gradient is not finite is left out and counted. Raises ConfigError where another process trains
    in `folder`.
    """
    with alone(folder):
        optimizer = _Optimizers(module, options)
        state_file = folder / "state.pt"
        average = _Average(module, options.averaging)
        start, seconds = 0, 0.0
        if state_file.exists():
            state = torch.load(state_file, map_location=device, weights_only=True)
            module.load_state_dict(state["module"])
            optimizer.load_state_dict(state["optimizer"])
            average.load(state.get("averaged", {}), state["step"])
            start, seconds = state["step"], state["seconds"]
        log = _Log(folder, start)
        saved = begun = time.monotonic()
        module.train()
        progress = tqdm(range(start, options.steps), initial=start, total=options.steps, desc=name, mininterval=5.0)
        skipped = 0
        sums: dict[str, Tensor] = {}
        summed = 0
        for step in progress:
            optimizer.set_rate(share_at(step, options))
            batch = next(batches)
            with quick_products(device, enabled=options.bf16):
                losses = loss_of(batch)
            optimizer.zero_grad()
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(optimizer.parameters, options.clip_norm)
            if torch.isfinite(norm):
                optimizer.step()
                average.update()
            else:
                skipped += 1
            for key, value in losses.items():
                sums[key] = sums[key] + value.detach() if key in sums else value.detach()
            summed += 1
            if summed == LOG_EVERY or step + 1 == options.steps:
                row = {key: float(value) / summed for key, value in sums.items()}
                sums, summed = {}, 0
                log.add(step + 1, row | {"skipped": float(skipped)})
                progress.set_postfix({key: f"{value:.3f}" for key, value in row.items()})
            if evaluate is not None and evaluate_every and (step + 1) % evaluate_every == 0:
                module.eval()
                average.swap()
                with torch.inference_mode():
                    figures = evaluate()
                average.swap()
                log.add(step + 1, {f"eval_{key}": value for key, value in figures.items()})
                tqdm.write(f"{name} step {step + 1}: " + " ".join(f"{k} {v:.4f}" for k, v in figures.items()))
                module.train()
            if time.monotonic() - saved > SAVE_EVERY_SEC or step + 1 == options.steps:
                saved = time.monotonic()
                spent = seconds + saved - begun
                state = {
                    "module": module.state_dict(),
                    "averaged": average.state(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "seconds": spent,
                }
                torch.save(state, state_file.with_suffix(".tmp"))
                state_file.with_suffix(".tmp").replace(state_file)
                (folder / "time.json").write_text(json.dumps({"seconds": round(spent, 1), "steps": step + 1}))
                log.plot()
        average.swap()
        module.eval()


_STEP_OF_ROW = re.compile(r"\d+,\w+,[^,]+$")


class _Log:
    """Rows of figures in log.csv, and their curves in curve.png."""

    def __init__(self, folder: Path, start: int) -> None:
        self._csv = folder / "log.csv"
        self._png = folder / "curve.png"
        before = self._csv.read_text().splitlines() if start and self._csv.exists() else []
        kept = [line for line in before if _STEP_OF_ROW.match(line) and int(line.split(",")[0]) <= start]
        self._csv.write_text("".join(f"{line}\n" for line in kept))  # what came behind the state comes again

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Append one row a figure: step, name, value."""
        with self._csv.open("a", newline="") as handle:
            csv.writer(handle).writerows((step, key, f"{value:.6g}") for key, value in figures.items())

    def plot(self) -> None:
        """Draw every figure over steps."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        series: dict[str, list[tuple[int, float]]] = {}
        with self._csv.open(newline="") as handle:
            for step, key, value in csv.reader(handle):
                series.setdefault(key, []).append((int(step), float(value)))
        series.pop("skipped", None)
        figure, axes = plt.subplots(1, len(series), figsize=(4 * len(series), 3), squeeze=False)
        for axis, (key, points) in zip(axes[0], series.items(), strict=True):
            axis.plot([p[0] for p in points], [p[1] for p in points])
            axis.set_title(key)
            axis.set_xlabel("step")
        figure.tight_layout()
        figure.savefig(self._png, dpi=80)
        plt.close(figure)
