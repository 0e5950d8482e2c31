"""One vocabulary: a verb is documented once, and an argument that got another name goes on working for a release."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["documented_by", "renamed"]

F = TypeVar("F", bound=Callable[..., Any])


def documented_by(source: Callable[..., object], more: str = "") -> Callable[[F], F]:
    """The docstring of another class's verb, where ``help()`` and Sphinx find it too.

    Args:
        source: has the docstring.
        more: what is to be known of this one beside it: a paragraph that comes behind the first line.
    """

    def decorate(function: F) -> F:
        first, _, rest = (inspect.getdoc(source) or "").partition("\n\n")
        function.__doc__ = "\n\n".join(part for part in (first, more, rest) if part)
        return function

    return decorate


def renamed(**names: str) -> Callable[[F], F]:
    """Take arguments under the names that they had in the last release too, with a DeprecationWarning.

    Type checkers and ``help()`` know the new names alone.

    Args:
        names: the old name → the new one.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            # Most calls have none of them.
            for old, new in names.items():
                if old in kwargs:
                    if new in kwargs:
                        raise TypeError(f"{function.__name__}() got both {new} and {old}, its name of before")
                    warnings.warn(
                        f"the argument {old} of {function.__name__}() is called {new} now",
                        DeprecationWarning,
                        stacklevel=2,
                    )
                    kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        # What the decorator gives back is called exactly as the function, but for the old names.
        wrapped: Any = called
        return wrapped  # type: ignore[no-any-return]

    return decorate
