"""What the model's outputs are: their size, the tokens that they depend on and are to tell.

Letters: A and B, the places [A, B] of a batch of tokens (examples and time, in either order);
V classes.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ravine.diagnosis.op_names import node_name
from ravine.diagnosis.rule import join_names
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.rng import isolated_rng
from ravine.watching.failures import FailureLog

MAX_PASSES = 4  # that are read
MAX_EMBEDDING_SEARCH = 5000  # nodes of the graph, from the outputs on
MIN_KNOWN_TARGETS = 16  # whose targets are known
SHIFTED_FRACTION = 0.99  # of the targets are the next tokens
SEEN_CHANGE = 1e-5  # of an output, over its size: less is rounding
MAX_COPIED_WEIGHTS = 50_000_000


@dataclass(frozen=True)
class TokenSight:
    """What the output of one place [A, B] of a copy of the model depends on, in evaluation mode."""

    # on the token at its place and on earlier ones: each token alone may be coded on purpose; not
    # where noise of its own may hide tokens
    own: bool
    next: tuple[float, float]  # by how much on the next token along each axis, over its size
    later: bool  # on any later one


@dataclass(eq=False)
class OutputMonitor:
    """The sizes of outputs; which tokens one depends on, and which token is its target: the class
    whose score alone the loss wants higher.
    """

    history: LoopHistory
    failures: FailureLog
    passes: int = 0
    sight: TokenSight | None = None

    def read_output(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """After a forward pass of an inspected step; the output's gradient shows the rest."""
        if isinstance(output, Tensor) and output.grad_fn is not None and output.numel():
            with suppress(RuntimeError):  # within `vmap` no number can be read
                size = float(output.detach().abs().float().square().mean().sqrt())
                hook = self.failures.guard(partial(self._read_evenness, size))
                output.register_hook(hook)
        if self.passes >= MAX_PASSES or not self.history.steps:
            return
        self.passes += 1
        texts = ((scores, list(_embedded_tokens(scores))) for scores in _scores_in(output))
        scores, found = next((text for text in texts if text[1]), (None, []))
        if scores is None:
            return
        if self.passes == 1:
            parts = dict(module.named_modules())
            sighted = [name for name, m in parts.items() if _sees_both_sides(m)]
            self.sight = _probe_copy(module, args, kwargs, found[0])
            if not sighted and any(isinstance(m, nn.RNNBase) for m in parts.values()):
                if self.sight is not None:  # perhaps a code of the sequence
                    self.sight = replace(self.sight, next=(0.0, 0.0))
            elif not sighted:
                sighted = [name for name, m in parts.items() if _has_padding(m)]
            kinds = tuple(type(parts[name]).__name__ for name in sighted)
            tokens = replace(self.history.model.outputs, where=join_names(sighted), kinds=kinds)
            self.history.model.outputs = tokens
        if self.sight is not None:
            scores.register_hook(self.failures.guard(partial(self._read_targets, found)))

    def _read_evenness(self, size: float, grad: Tensor) -> None:
        sizes = grad.detach().abs().float()
        usual = float(sizes.square().mean().sqrt())
        found = {
            "pull": usual * sizes.numel(),
            "evenness": float(sizes.median()) / max(usual, 1e-30),
        }
        self.history.model.outputs = replace(self.history.model.outputs, size=size, **found)

    def _read_targets(self, found: Sequence[Tensor], grad: Tensor) -> None:
        rows, sight = _by_place(grad.detach(), found[0].shape), self.sight
        if rows is None or sight is None or not bool(rows.isfinite().all()):
            return
        known, targets = (rows != 0).any(-1), rows.argmin(-1)
        if int(known.sum()) < MIN_KNOWN_TARGETS:
            return
        old = self.history.model.outputs
        new = replace(old, readings=old.readings + 1)
        for tokens in (t for t in found if t.shape == found[0].shape):
            shifted = [_match(targets, tokens, known, axis) for axis in (0, 1)]
            if bool((targets == tokens)[known].all()):
                if max(shifted) < SHIFTED_FRACTION and sight.own and not sight.later:
                    new = replace(new, own=old.own + 1)
            elif max(shifted) >= SHIFTED_FRACTION and min(shifted) < 1:
                change = sight.next[shifted.index(max(shifted))]
                if change > SEEN_CHANGE:
                    new = replace(new, next=old.next + 1, next_change=change)
        self.history.model.outputs = new


@torch.no_grad()
def _probe_copy(module: nn.Module, args: Any, kwargs: Any, tokens: Tensor) -> TokenSight | None:
    """What one output depends on, where the tokens are an input; None where it cannot be told: of a
    copy without hooks, so that nothing of the model's own is called or changed.
    """
    inner = list(module.modules())
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in inner):  # it mixes all places
        return None
    if sum(p.numel() for p in module.parameters()) > MAX_COPIED_WEIGHTS:
        return None
    given = [*args, *kwargs.values()]
    at = next((i for i, x in enumerate(given) if x is tokens or _is_equal(x, tokens)), None)
    if at is None:
        return None
    place = (tokens.shape[0] - 1) // 2, (tokens.shape[1] - 1) // 2
    other = tokens[tokens != tokens[place]][0]

    def scores(changed: Tensor) -> Tensor:
        new = [changed if i == at else x for i, x in enumerate(given)]
        named = dict(zip(kwargs, new[len(args) :], strict=True))
        parts = _scores_in(probed(*new[: len(args)], **named), with_graph=False)
        rows = (_by_place(part, tokens.shape) for part in parts)
        return next(row for row in rows if row is not None)

    def change(*where: Any) -> float:
        new = tokens.clone()
        new[where] = torch.where(new[where] == other, tokens[place], other)
        return float((scores(new)[place] - own[place]).abs().max() / own[place].abs().max())

    try:
        with isolated_rng(0):
            probed = copy.deepcopy(module)
            for part in probed.modules():
                part._forward_hooks.clear()
                part._forward_pre_hooks.clear()
                part.train(not isinstance(part, nn.modules.dropout._DropoutNd))
                if isinstance(part, nn.MultiheadAttention | nn.RNNBase):
                    part.dropout = 0.0
            draws = [scores(tokens) for _ in range(2)]
            probed.eval()
            own, (i, j) = scores(tokens), place
            after = change(slice(i + 1, None), j), change(i, slice(j + 1, None))
            before = max(change(slice(i), j), change(i, slice(j)))
            return TokenSight(
                own=min(change(*place), before) > SEEN_CHANGE and torch.equal(*draws),
                next=(change(i + 1, j), change(i, j + 1)),
                later=max(after) > SEEN_CHANGE,
            )
    except Exception:  # it cannot be copied, or takes other inputs than these
        return None


def _is_equal(given: Any, tokens: Tensor) -> bool:
    is_tokens = isinstance(given, Tensor) and given.shape == tokens.shape
    return is_tokens and not given.is_floating_point() and bool((given == tokens).all())


def _sees_both_sides(module: nn.Module) -> bool:
    is_attention = isinstance(module, nn.MultiheadAttention)
    return is_attention or (isinstance(module, nn.RNNBase) and module.bidirectional)


def _has_padding(module: nn.Module) -> bool:
    """Whether a convolution or pooling over time may pad on both sides."""
    is_window = type(module).__name__.startswith(("Conv1d", "Conv2d", "AvgPool", "MaxPool"))
    return is_window and module.padding not in (0, (0,), (0, 0))


def _match(targets: Tensor, tokens: Tensor, known: Tensor, axis: int) -> float:
    """The share of the known targets that are the next token along an axis."""
    count = tokens.shape[axis] - 1
    same = targets.narrow(axis, 0, count) == tokens.narrow(axis, 1, count)
    use = known.narrow(axis, 0, count)
    return float(same[use].float().mean()) if bool(use.any()) else 0.0


def _scores_in(output: Any, *, with_graph: bool = True) -> Iterator[Tensor]:
    """The tensors of an output that may be scores of classes."""
    parts = output.values() if isinstance(output, Mapping) else output
    for part in parts if isinstance(output, Mapping | tuple | list) else [output]:
        is_scores = isinstance(part, Tensor) and part.dim() in (2, 3)
        if is_scores and (part.grad_fn is not None or not with_graph):
            yield part


def _embedded_tokens(scores: Tensor) -> Iterator[Tensor]:
    """The tokens [A, B] at the places of scores that embeddings in their graph have read."""
    nodes, known = [scores.grad_fn], {scores.grad_fn}
    for node in nodes:  # grows while it is read
        if node_name(node) == "Embedding":
            tokens: Tensor = node._saved_indices  # pyright: ignore
            is_text = tokens.dim() == 2 and min(tokens.shape) > 1 and len(tokens.unique()) > 1
            if is_text and _by_place(scores, tokens.shape) is not None:
                yield tokens.clone()
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
