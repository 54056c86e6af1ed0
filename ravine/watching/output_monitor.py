"""What the model's outputs are: their size, the tokens that they depend on and are to tell.

Letters: A and B, the places [A, B] of a batch of tokens (examples and time, in either order);
V classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from ravine.diagnosis.op_names import node_name
from ravine.diagnosis.rule import join_names
from ravine.diagnosis.training_loop.history import LoopHistory, OutputSizes
from ravine.watching.failures import FailureLog

MAX_PASSES = 4  # that are read
MAX_EMBEDDING_SEARCH = 5000  # nodes of the graph, from the outputs on
MIN_KNOWN_TARGETS = 16  # whose targets are known
SHIFTED_FRACTION = 0.99  # of the targets are the next tokens
SEEN_FRACTION = 1e-4  # of the gradient that an output has at all tokens: less is rounding


@dataclass(eq=False)
class OutputMonitor:
    """The sizes of outputs; which tokens one depends on, by its gradient, and which token is its
    target: the class whose score alone the loss wants higher.
    """

    history: LoopHistory
    failures: FailureLog
    passes: int = 0

    def read_output(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """After a forward pass of an inspected step; the output's gradient shows the rest."""
        if isinstance(output, Tensor) and output.grad_fn is not None and output.numel():
            with suppress(RuntimeError):  # within `vmap` no number can be read
                size = float(output.detach().abs().float().square().mean().sqrt())
                hook = self.failures.guard(partial(self._read_evenness, size))
                output.register_hook(hook)
        if self.passes >= MAX_PASSES or not self.history.steps or not _has_own_gradients(module):
            return
        self.passes += 1
        texts = ((scores, list(_embeddings(scores))) for scores in _scores_in(output))
        scores, found = next((text for text in texts if text[1]), (None, []))
        if scores is not None:
            names = (n for n, m in module.named_modules() if _sees_both_sides(m))
            tokens = self.history.model.tokens
            self.history.model.tokens = replace(tokens, where=join_names(names))
            with suppress(RuntimeError):  # a part of the graph has no gradient of its own
                self._read_scores(scores, found)

    def _read_evenness(self, size: float, grad: Tensor) -> None:
        sizes = grad.detach().abs().float()
        evenness = float(sizes.median() / sizes.square().mean().sqrt())
        self.history.model.outputs = OutputSizes(size, evenness)

    def _read_scores(self, scores: Tensor, found: Sequence[tuple[Any, Tensor]]) -> None:
        rows = _by_place(scores, found[0][1].shape)
        assert rows is not None
        place = self.passes % (rows.shape[0] - 1), rows.shape[1] // 2
        weights = torch.arange(rows.shape[-1], device=rows.device).cos()
        score = (rows[place].float() * weights).sum()
        edges = [GradientEdge(node, 0) for node, _ in found]
        grads = torch.autograd.grad(score, edges, retain_graph=True, allow_unused=True)
        seen = [
            (tokens.clone(), grad.float().norm(dim=-1))
            for (_, tokens), grad in zip(found, grads, strict=True)
            if grad is not None and tokens.shape == found[0][1].shape
        ]
        scores.register_hook(self.failures.guard(partial(self._read_targets, seen, place)))

    def _read_targets(
        self, seen: Sequence[tuple[Tensor, Tensor]], place: tuple[int, int], grad: Tensor
    ) -> None:
        rows = _by_place(grad.detach(), seen[0][0].shape) if seen else None
        if rows is None or not bool(rows.isfinite().all()):
            return
        known, targets = (rows != 0).any(-1), rows.argmin(-1)
        if int(known.sum()) < MIN_KNOWN_TARGETS or not bool(known[place]):
            return
        old = self.history.model.tokens
        new = replace(old, readings=old.readings + 1)
        for tokens, sizes in seen:
            total, (i, j) = float(sizes.sum()), place
            least = SEEN_FRACTION * total
            later = (sizes[i + 1 :, j], sizes[i, j + 1 :])
            shifted = [_match(targets, tokens, known, axis) for axis in (0, 1)]
            if bool((targets == tokens)[known].all()):
                ends = sum(float(part.sum()) for part in later)
                if max(shifted) < SHIFTED_FRACTION and ends <= least < sizes[place]:
                    new = replace(new, own=old.own + 1)
            elif max(shifted) >= SHIFTED_FRACTION and min(shifted) < 1:
                size = float(later[shifted.index(max(shifted))][0])
                if size > least:
                    new = replace(new, next=old.next + 1, next_share=size / total)
        self.history.model.tokens = new


def _has_own_gradients(module: nn.Module) -> bool:
    """Whether a backward pass from one output is that output's alone, and nobody else's concern."""
    inner = list(module.modules())
    mixes = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in inner)  # all places
    is_heard = any(m._backward_hooks or m._backward_pre_hooks for m in inner)
    is_shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not (mixes or is_heard or is_shared)


def _sees_both_sides(module: nn.Module) -> bool:
    is_attention = isinstance(module, nn.MultiheadAttention)
    return is_attention or (isinstance(module, nn.RNNBase) and module.bidirectional)


def _match(targets: Tensor, tokens: Tensor, known: Tensor, axis: int) -> float:
    """The share of the known targets that are the next token along an axis."""
    count = tokens.shape[axis] - 1
    same = targets.narrow(axis, 0, count) == tokens.narrow(axis, 1, count)
    use = known.narrow(axis, 0, count)
    return float(same[use].float().mean()) if bool(use.any()) else 0.0


def _scores_in(output: Any) -> Iterator[Tensor]:
    """The tensors of an output that may be scores of classes."""
    parts = output.values() if isinstance(output, Mapping) else output
    for part in parts if isinstance(output, Mapping | tuple | list) else [output]:
        if isinstance(part, Tensor) and part.grad_fn is not None and part.dim() in (2, 3):
            yield part


def _embeddings(scores: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """The nodes of a graph that embed tokens [A, B] at the places of scores, with the tokens."""
    nodes, known = [scores.grad_fn], {scores.grad_fn}
    for node in nodes:  # grows while it is read
        if node_name(node) == "Embedding":
            tokens: Tensor = node._saved_indices  # pyright: ignore
            is_text = tokens.dim() == 2 and min(tokens.shape) > 1 and len(tokens.unique()) > 1
            if is_text and _by_place(scores, tokens.shape) is not None:
                yield node, tokens
        sources = node.next_functions if node is not None else ()
        new = [n for n, _ in sources if n not in known and len(nodes) < MAX_EMBEDDING_SEARCH]
        nodes += new
        known.update(new)


def _by_place(scores: Tensor, places: Sequence[int]) -> Tensor | None:
    """Scores as [A, B, V]; None if they are not of these places."""
    for axis in (-1, 1):
        rows = scores.movedim(axis, -1)
        if rows.shape[:-1] == tuple(places):
            return rows
    flat = scores.dim() == 2 and len(scores) == places[0] * places[1]
    return scores.reshape(*places, -1) if flat else None
