"""Makes a network's arithmetic the same alone and in a cohort, and says whether it is.

Three things are needed of a process on a CPU. One thread: the order of a sum must not depend on how
work is shared out. No denormals: they are a hundred times slower, so they are flushed to zero. And
MKL must not choose a kernel by where a matrix happens to stand in memory, which the environment
variable MKL_CBWR tells it, if set before its first use.
"""

import contextlib
import os
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[bool]:
    """One thread and flushed denormals; gives whether numbers are the same in any cohort.

    They are where `products_are_exact`.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # read by MKL at its first use
    threads, flushed = torch.get_num_threads(), flushes_denormals()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield products_are_exact()
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


def flushes_denormals() -> bool:
    """Whether this process flushes denormals to zero."""
    return bool(torch.tensor(1e-310, dtype=torch.float64).mul(0.5) == 0)


def products_are_exact() -> bool:
    """Whether products of matrices are the same bit for bit wherever the matrices stand in memory.

    They are not where MKL was used in this process before MKL_CBWR was set. Checked by a product.
    """
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(7, 3, 20, generator=generator), torch.randn(7, 20, 65, generator=generator)
    together = torch.bmm(x, w)
    return all(
        torch.equal(together[i : i + 2], torch.bmm(x[i : i + 2].clone(), w[i : i + 2].clone()))
        for i in range(6)
    )
