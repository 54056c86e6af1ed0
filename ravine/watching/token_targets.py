"""Whether a model of sequences is trained to tell tokens that it sees: its own, or the next ones.

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
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.watching.failures import FailureLog
from ravine.watching.module_hooks import BATCH_NORM_MODULES

MAX_PASSES = 4  # that are read
MAX_SEARCHED = 5000  # nodes of the graph, from the outputs on
MIN_PLACES = 16  # whose targets are known
SHIFTED_FRACTION = 0.99  # of the targets are the next tokens
SEEN_FRACTION = 1e-4  # of the gradient that an output has at all tokens: less is rounding


@dataclass(eq=False)
class TokenMonitor:
    """Which tokens an output depends on, by its gradient, and which token is its target: the class
    whose score alone the loss wants higher.
    """

    history: LoopHistory
    failures: FailureLog
    passes: int = 0

    def read_output(self, module: nn.Module, output: Any) -> None:
        """After a forward pass: what an output depends on. Its gradient will show the targets."""
        if self.passes >= MAX_PASSES or not self.history.steps or _is_distributed():
            return
        modules = dict(module.named_modules())
        hooked = any(m._backward_hooks or m._backward_pre_hooks for m in modules.values())
        # in training, a batch norm mixes all places
        if hooked or any(isinstance(m, BATCH_NORM_MODULES) for m in modules.values()):
            return
        for scores in _scores_in(output):
            found = [n for n in _embeddings(scores) if _by_place(scores, n[1].shape) is not None]
            if found:
                self.passes += 1
                where = join_names(n for n, m in modules.items() if _may_look_ahead(m))
                self.history.model.tokens = replace(self.history.model.tokens, where=where)
                with suppress(RuntimeError):  # a part of the graph has no gradient of its own
                    self._read_scores(scores, found)
                return

    def _read_scores(self, scores: Tensor, found: Sequence[tuple[Any, Tensor]]) -> None:
        rows = _by_place(scores, found[0][1].shape)
        assert rows is not None
        place = self.passes % (rows.shape[0] - 1), rows.shape[1] // 2
        weights = torch.arange(rows.shape[-1], device=rows.device).cos()
        edges = [GradientEdge(node, 0) for node, _ in found]
        score = (rows[place].float() * weights).sum()
        grads = torch.autograd.grad(score, edges, retain_graph=True, allow_unused=True)
        seen = [
            (tokens.clone(), grad.float().norm(dim=-1))
            for (_, tokens), grad in zip(found, grads, strict=True)
            if grad is not None and tokens.shape == found[0][1].shape
        ]
        read = partial(self._read_targets, seen, place)
        scores.register_hook(self.failures.guard(read))

    def _read_targets(
        self, seen: Sequence[tuple[Tensor, Tensor]], place: tuple[int, int], grad: Tensor
    ) -> None:
        rows = _by_place(grad.detach(), seen[0][0].shape) if seen else None
        if rows is None or not bool(rows.isfinite().all()):
            return
        known, targets = (rows != 0).any(-1), rows.argmin(-1)
        if int(known.sum()) < MIN_PLACES or not bool(known[place]):
            return
        old = self.history.model.tokens
        new = replace(old, readings=old.readings + 1)
        for tokens, sizes in seen:
            least, total = SEEN_FRACTION * float(sizes.sum()), float(sizes.sum())
            shifted = [_match(targets, tokens, known, axis) for axis in (0, 1)]
            later = sizes[place[0] + 1 :, place[1]].sum() + sizes[place[0], place[1] + 1 :].sum()
            is_own = bool((targets == tokens)[known].all())
            if is_own and max(shifted) < SHIFTED_FRACTION and later <= least < sizes[place]:
                new = replace(new, own=old.own + 1)
            for axis in (0, 1):
                after = [p + (d == axis) for d, p in enumerate(place)]
                if not is_own and shifted[axis] >= SHIFTED_FRACTION and shifted[1 - axis] < 1:
                    size = float(sizes[tuple(after)])
                    if size > least:
                        share = max(old.next_share, size / total)
                        new = replace(new, next=old.next + 1, next_share=share)
        self.history.model.tokens = new


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _may_look_ahead(module: nn.Module) -> bool:
    is_attention = isinstance(module, nn.MultiheadAttention)
    return is_attention or (isinstance(module, nn.RNNBase) and module.bidirectional)


def _match(targets: Tensor, tokens: Tensor, known: Tensor, axis: int) -> float:
    """The share of the known targets that are the next token along an axis."""
    count = tokens.shape[axis] - 1
    use = known.narrow(axis, 0, count)
    same = targets.narrow(axis, 0, count) == tokens.narrow(axis, 1, count)
    return float(same[use].float().mean()) if bool(use.any()) else 0.0


def _scores_in(output: Any) -> Iterator[Tensor]:
    """The tensors of an output that may be scores of classes."""
    parts = output.values() if isinstance(output, Mapping) else output
    for part in [parts] if isinstance(parts, Tensor) else parts or ():
        if isinstance(part, Tensor) and part.grad_fn is not None and part.dim() in (2, 3):
            yield part


def _embeddings(scores: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """The nodes of a graph that embed tokens [A, B], with these."""
    nodes = [scores.grad_fn]
    known = set(nodes)
    for node in nodes:  # grows while it is read
        if node_name(node) == "Embedding":
            tokens: Tensor = node._saved_indices  # pyright: ignore
            if tokens.dim() == 2 and min(tokens.shape) > 1 and len(tokens.unique()) > 1:
                yield node, tokens
        sources = node.next_functions if node is not None else ()
        new = [n for n, _ in sources if n is not None and n not in known]
        if len(nodes) < MAX_SEARCHED:
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
