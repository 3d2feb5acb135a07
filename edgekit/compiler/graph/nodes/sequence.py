"""Write a few nodes in the place of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.compiler.graph.nodes.node_graph import Node, NodeGraph

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Sequence:
    """Collect nodes that take the place of another; each call returns the name of its result.

    Args:
        graph: Where they will be.
        place: The node they stand for.
    """

    def __init__(self, graph: NodeGraph, place: Node) -> None:
        self.nodes: list[Node] = []
        self._graph = graph
        self._place = place

    def constant(self, value: ArrayLike, dtype: str = "float32") -> str:
        """Add a constant."""
        return self._graph.add_constant(f"{self._place.name}_constant", np.asarray(value, dtype))

    def append(self, kind: str, *reads: str, result: str = "", **attributes: float | str) -> str:
        """Add a node of ONNX's own operators.

        Args:
            kind: Its type.
            reads: Names of its operands.
            result: Name of its result; a new one when empty.
            attributes: By name.
        """
        from onnx import helper

        base = f"{self._place.name}_{kind}"
        written = result or self._graph.new_tensor_name(base)
        held = {name: helper.make_attribute(name, value) for name, value in attributes.items()}
        self.nodes.append(
            Node(
                name=self._graph.new_name(base),
                kind=kind,
                reads=reads,
                writes=(written,),
                nodes=self._place.nodes,
                attributes=held,
            )
        )
        return written

    def move(self, kind: str, *reads: str) -> str:
        """Add a node of another type that has the attributes of the one replaced."""
        written = self.append(kind, *reads)
        self.nodes[-1].attributes.update(self._place.attributes)
        return written

    def finish(self) -> None:
        """Put the nodes in the place of the one they stand for."""
        self._graph.replace([self._place], self.nodes)
