"""A circuit as a directed graph, for networkx and for programs that read GraphML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sage.circuits.circuit import Circuit, is_mlp, layer_of

if TYPE_CHECKING:
    import networkx as nx


def circuit_graph(circuit: Circuit) -> nx.DiGraph[str]:
    """Members as nodes, with an edge wherever a role feeds a role (see `Circuit.edges`).

    A node has kind, layer, role, position, carries and disputed; several names are joined by a
    comma.
    """
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.graph.update(
        name=circuit.name,
        task=circuit.task,
        model=circuit.model,
        source=circuit.source,
        where=circuit.where,
        heads_total=circuit.heads_total,
    )
    for member in circuit.members:
        graph.add_node(
            member,
            kind="mlp" if is_mlp(member) else "head",
            layer=layer_of(member),
            role=", ".join(circuit.roles_of(member)),
            position=", ".join(circuit.positions_of(member)),
            carries=", ".join(circuit.carried_by(member)),
            disputed=member in circuit.disputed,
        )
    graph.add_edges_from((edge.member, edge.reader) for edge in circuit.edges())
    return graph


def write_graphml(circuit: Circuit, path: Path | str) -> None:
    """The circuit's graph as GraphML, which networkx, Gephi and yEd read."""
    import networkx as nx

    nx.write_graphml_xml(circuit_graph(circuit), path)
