"""An operation of our own that torch differentiates, traces, compiles and exports."""

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import torch

__all__ = ["Operation", "operation"]

NAMESPACE = "nacs"

P = ParamSpec("P")
R = TypeVar("R")


class Operation(Generic[P, R]):
    """A function of tensors under a name that torch knows.

    It is what `torch.library.custom_op` makes, but that one imports torch's compiler,
    more than a second and 37 MB, at the first call of any operation.

    Args:
        function: Of annotated tensors, numbers, flags; it changes none of them, and
            returns none of them.
        name: Told to torch, in our namespace.
    """

    def __init__(self, function: Callable[P, R], name: str) -> None:
        self.name = f"{NAMESPACE}::{name}"
        self.__doc__ = function.__doc__
        self._library = torch.library.Library(NAMESPACE, "FRAGMENT")
        schema = torch.library.infer_schema(function, mutates_args=())
        tags = (torch.Tag.pt2_compliant_tag,)
        self._library.define(name + schema, tags=tags)
        self._library.impl(name, function, "CompositeExplicitAutograd")
        self.overload = getattr(getattr(torch.ops, NAMESPACE), name).default
        self._back: Callable[..., Any] | None = None
        self._keep: Callable[..., None] | None = None
        torch.library.register_autograd(
            self.name, self._slopes, setup_context=self._kept, lib=self._library
        )

    def __call__(self, *inputs: P.args, **more: P.kwargs) -> R:
        """The function's result; differentiable if `register_autograd` was called."""
        return self.overload(*inputs, **more)

    def register_fake(self, fake: Callable[..., Any]) -> Callable[..., Any]:
        """Say of what shape and type a result is, for tracing; used as a decorator."""
        torch.library.register_fake(self.name, fake, lib=self._library)
        return fake

    def register_autograd(
        self, back: Callable[..., Any], *, setup_context: Callable[..., None]
    ) -> None:
        """Say how gradients flow back: see `torch.library.register_autograd`."""
        self._back, self._keep = back, setup_context

    def _kept(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if self._keep is not None:
            self._keep(ctx, inputs, output)

    def _slopes(self, ctx: Any, *d_out: Any) -> Any:
        """Gradients; a refusal, not silent zeros, where none are known."""
        if self._back is None:
            raise RuntimeError(
                f"{self.name} has no autograd formula; NACS_NATIVE=off, set before "
                "python starts, has torch compute what can be differentiated again."
            )
        return self._back(ctx, *d_out)


def operation(name: str) -> Callable[[Callable[P, R]], Operation[P, R]]:
    """Make a function an operation; used as a decorator."""
    return lambda function: Operation(function, name)
