"""A metric the user wrote."""

from __future__ import annotations

import importlib
import importlib.machinery
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from edgekit.core.canonical import sha256_file, sha256_json
from edgekit.core.errors import InputError
from edgekit.core.options import Meta, Options
from edgekit.core.schema import to_plain

if TYPE_CHECKING:
    from edgekit.data.contracts import Array, Labels


class Python(Options, frozen=True):
    """A function of your own, `pkg.mod:fn`, called as fn(outputs, labels); needs --allow-code.

    `outputs` is what the model gives: one array, or arrays by output name. The function returns
    one finite number.
    """

    requires_code: ClassVar[bool] = True

    function: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module and function, `a.b:f`"),
    ]
    better: Annotated[Literal["higher", "lower"], Meta(description="which way is better")] = (
        "higher"
    )
    unit: Annotated[str, Meta(description="unit as printed")] = ""

    def fingerprint(self) -> str:
        """Digest the options and the module's source, which is found without importing anything.

        Raises:
            InputError: there is no such module.
        """
        return sha256_json({"options": to_plain(self), "source": sha256_file(self._source())})

    def compute(self, outputs: Array | Mapping[str, Array], labels: Labels) -> float:
        """Call the function. The caller has made sure that code is allowed.

        Raises:
            InputError: module or function is missing, or it did not return a finite number.
        """
        self._source()
        module_name, _, name = self.function.partition(":")
        function = getattr(importlib.import_module(module_name), name, None)
        if not callable(function):
            raise InputError(f"metric 'python': {module_name} has no function '{name}'")
        try:
            value = function(outputs, labels)
        except Exception as error:  # whatever the user's code raises is theirs to mend
            raise InputError(
                f"metric 'python': calling {self.function}",
                found=f"{type(error).__name__}: {error}",
                hint="Mend the function; EDGEKIT_DEBUG=1 shows where it failed",
            ) from error
        if not isinstance(value, Real) or not math.isfinite(value):
            raise InputError(
                f"metric 'python': {self.function} returned {value!r}", expected="a finite number"
            )
        return float(value)

    def _source(self) -> Path:
        module_name = self.function.partition(":")[0]
        search: Sequence[str] | None = None
        spec = None
        for end in range(1, module_name.count(".") + 2):
            prefix = ".".join(module_name.split(".")[:end])
            spec = importlib.machinery.PathFinder.find_spec(prefix, search)
            search = spec.submodule_search_locations if spec is not None else []
        if spec is None or spec.origin is None:
            raise InputError(
                f"metric 'python': no module '{module_name}'",
                hint="Install it, or run with PYTHONPATH set to its folder",
            )
        return Path(spec.origin)
