"""A graph of ONNX nodes that can be rewritten, step by step, into one of operators.

Nodes and finished operators stand side by side: both read and write tensors by name, so that every
question about neighbours has one answer while the graph is half rewritten.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from edgekit.compiler.graph.operators import Operator
from edgekit.compiler.graph.tensors import Grid, Tensor

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    Array = NDArray[Any]


class Node(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Hold one ONNX node.

    Args:
        name: Unique in the graph.
        kind: Its operator type.
        domain: Empty for ONNX's own operators.
        reads: Names of its operands, empty where an optional one is left out.
        writes: Names of its results, empty where one is left out.
        attributes: As ONNX holds them, by name.
        captures: Tensors that its inner graphs read from around it.
        nodes: Names of the nodes of the user's model that it stands for.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    nodes: tuple[str, ...]
    domain: str = ""
    attributes: dict[str, onnx.AttributeProto] = {}
    captures: tuple[str, ...] = ()

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is one integer."""
        return int(self.attributes[name].i) if name in self.attributes else default

    def integers(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """Return an attribute that is a list of integers."""
        found = self.attributes[name].ints if name in self.attributes else default
        return tuple(int(value) for value in found)

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is one float."""
        return float(self.attributes[name].f) if name in self.attributes else default

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a string."""
        return self.attributes[name].s.decode() if name in self.attributes else default

    def operand(self, place: int) -> str:
        """Return the name of an operand, empty when it is left out."""
        return self.reads[place] if place < len(self.reads) else ""


Step = Node | Operator
_AnyStep = TypeVar("_AnyStep", bound=Node | Operator)


class NodeGraph:
    """Hold nodes and operators, their tensors and their constants.

    Args:
        steps: In an order in which they can run.
        tensors: Shape and type of every tensor that is no constant, as far as known.
        constants: Values of tensors known before the run.
        inputs: Tensors the caller gives.
        outputs: Tensors the caller receives.
        opset: Version of ONNX's operators.
    """

    def __init__(
        self,
        *,
        steps: Iterable[Step],
        tensors: dict[str, Tensor],
        constants: dict[str, Array],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        opset: int,
    ) -> None:
        self.steps: list[Step] = list(steps)
        self.tensors = tensors
        self.constants = constants
        self.inputs = inputs
        self.outputs = outputs
        self.opset = opset
        self._producers: dict[str, Step] | None = None
        self._readers: dict[str, list[Step]] = {}
        self._by_name: dict[str, Step] = {}
        self._names = {*tensors, *constants} | {name for step in self.steps for name in step.writes}
        self._step_names = {step.name for step in self.steps}

    def nodes(self) -> Iterator[Node]:
        """Yield the nodes that no operator has taken the place of yet.

        The graph may change meanwhile: each node is yielded as it is when its turn comes, unless it
        is gone by then, and new ones are left out.
        """
        for name in [step.name for step in self.steps if isinstance(step, Node)]:
            self._index()
            current = self._by_name.get(name)
            if isinstance(current, Node):
                yield current

    def producer(self, tensor: str) -> Step | None:
        """Return the step that makes a tensor; None for inputs and constants."""
        return self._index()[0].get(tensor)

    def maker(self, tensor: str, *kinds: str) -> Node | None:
        """Return the node that makes a tensor when it is of one of these kinds of ONNX's own."""
        found = self.producer(tensor)
        is_wanted = isinstance(found, Node) and found.kind in kinds and not found.domain
        return found if isinstance(found, Node) and is_wanted else None

    def readers(self, tensor: str) -> list[Step]:
        """Return the steps that read a tensor, one as often as it reads it."""
        return self._index()[1].get(tensor, [])

    def sole_reader(self, tensor: str) -> Step | None:
        """Return the one step that reads a tensor, None when anything else needs it as well."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def value(self, tensor: str) -> Array | None:
        """Return the value of a constant."""
        return self.constants.get(tensor)

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of a tensor or constant."""
        if tensor in self.constants:
            return tuple(self.constants[tensor].shape)
        return self.tensors[tensor].shape

    def dtype(self, tensor: str) -> str:
        """Return numpy's word for the type of a tensor or constant."""
        if tensor in self.constants:
            return str(self.constants[tensor].dtype)
        return self.tensors[tensor].dtype

    def add_tensor(
        self, base: str, shape: Sequence[int], dtype: str, grid: Grid | None = None
    ) -> str:
        """Add a tensor under a new name and return that."""
        name = self._unused(base, self._names)
        self.tensors[name] = Tensor(name=name, shape=tuple(shape), dtype=dtype, grid=grid)
        return name

    def add_constant(self, base: str, value: Array) -> str:
        """Add a constant under a new name and return that."""
        name = self._unused(base, self._names)
        self.constants[name] = value
        return name

    def new_tensor_name(self, base: str) -> str:
        """Return a name that no tensor has, for one whose shape is not known yet."""
        return self._unused(base, self._names)

    def new_name(self, base: str) -> str:
        """Return a name that no step has."""
        return self._unused(base, self._step_names)

    def replace(self, old: Sequence[Step], new: Sequence[Step]) -> None:
        """Put new steps where the last of some old ones stands."""
        gone = {id(step) for step in old}
        place = max(index for index, step in enumerate(self.steps) if id(step) in gone)
        kept = [step for step in self.steps[:place] if id(step) not in gone]
        self.steps = [*kept, *new, *self.steps[place + 1 :]]
        self._step_names |= {step.name for step in new}
        self._changed()

    def append(self, step: Step) -> None:
        """Put a new step behind all others."""
        self.steps.append(step)
        self._step_names.add(step.name)
        self._changed()

    def redirect(self, tensor: str, into: str) -> None:
        """Let every reader of one tensor read another."""
        self.steps = [
            with_reads(step, tuple(into if name == tensor else name for name in step.reads))
            if tensor in step.reads
            else step
            for step in self.steps
        ]
        self._changed()

    def bypass(self, node: Node) -> bool:
        """Drop a node whose first result equals its first operand.

        Returns:
            False, with nothing changed, when the node hands an input or a constant to the caller,
            or when a graph inside another node reads the result.
        """
        source, result = node.reads[0], node.writes[0]
        producer = self.producer(source)
        if self._is_captured(result):
            return False
        if result in self.outputs:
            if producer is None or source in self.outputs or self._is_captured(source):
                return False
            writes = tuple(result if name == source else name for name in producer.writes)
            self.replace([node], [])
            self.replace([producer], [with_writes(producer, writes)])
            self.tensors[result] = msgspec.structs.replace(self.tensors[source], name=result)
            self.redirect(source, result)
            return True
        self.replace([node], [])
        self.redirect(result, source)
        return True

    def prune(self) -> None:
        """Drop steps whose results nobody needs."""
        needed, kept = set(self.outputs), []
        for step in reversed(self.steps):
            if any(name in needed for name in step.writes):
                kept.append(step)
                needed.update(read_by(step))
        self.steps = kept[::-1]
        self._changed()

    def sort(self) -> None:
        """Order steps so that each comes after those it reads from, else as they stand."""
        made_by = {name: index for index, step in enumerate(self.steps) for name in step.writes}
        waits = [
            {made_by[name] for name in read_by(step) if name in made_by} for step in self.steps
        ]
        followers: dict[int, list[int]] = {}
        for index, before in enumerate(waits):
            for other in before:
                followers.setdefault(other, []).append(index)
        ready = [index for index, before in enumerate(waits) if not before]
        order: list[int] = []
        while ready:
            order.append(heapq.heappop(ready))
            for follower in followers.get(order[-1], ()):
                waits[follower].discard(order[-1])
                if not waits[follower]:
                    heapq.heappush(ready, follower)
        assert len(order) == len(self.steps), "the graph has a cycle"
        self.steps = [self.steps[index] for index in order]
        self._changed()

    def _index(self) -> tuple[dict[str, Step], dict[str, list[Step]]]:
        if self._producers is None:
            self._producers = {name: step for step in self.steps for name in step.writes if name}
            self._readers = {}
            self._by_name = {step.name: step for step in self.steps}
            for step in self.steps:
                for name in read_by(step):
                    self._readers.setdefault(name, []).append(step)
        return self._producers, self._readers

    def _is_captured(self, tensor: str) -> bool:
        return any(isinstance(step, Node) and tensor in step.captures for step in self.steps)

    def _changed(self) -> None:
        self._producers = None

    @staticmethod
    def _unused(base: str, taken: set[str]) -> str:
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        return name


def read_by(step: Step) -> tuple[str, ...]:
    """Return all tensors a step reads, also by the graphs inside it."""
    named = tuple(name for name in step.reads if name)
    return named + step.captures if isinstance(step, Node) else named


def with_reads(step: _AnyStep, reads: tuple[str, ...]) -> _AnyStep:
    """Return a step that reads other tensors."""
    return msgspec.structs.replace(step, reads=reads)


def with_writes(step: _AnyStep, writes: tuple[str, ...]) -> _AnyStep:
    """Return a step that writes other tensors."""
    return msgspec.structs.replace(step, writes=writes)
