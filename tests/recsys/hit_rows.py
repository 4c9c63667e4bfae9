"""Hit tables made by hand."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from recsys.ranker import SOURCES

LISTS = {
    "bought": pa.list_(pa.string()),
    "recommended": pa.list_(pa.string()),
    "hits": pa.list_(pa.int32()),
}


def hit_table(
    rows: Mapping[str, Mapping[str, object]], question: str = "discover", **same: object
) -> pa.Table:
    """Make a table from customer → column → value; `same` gives all customers a value.

    `hits` and `relevant` follow from `bought` and `recommended` where they are not given.
    """
    table = []
    for customer, given in rows.items():
        row = {"history": 1, "bought": [], "recommended": []} | same | dict(given)
        bought, shown = _list(row["bought"]), _list(row["recommended"])
        found = {"hits": [n for n, item in enumerate(shown, 1) if item in bought]}
        sources = {f"source_{name}": 0 for name in SOURCES[1:]} | {"source_model": len(shown)}
        head = {"customer_id": customer, "question": question, "relevant": max(len(bought), 1)}
        table.append(head | found | sources | row)
    schema = pa.Table.from_pylist(table).schema
    for name, kind in LISTS.items():
        schema = schema.set(schema.get_field_index(name), pa.field(name, kind))
    return pa.Table.from_pylist(table, schema=schema)


def _list(value: object) -> Sequence[str]:
    return value if isinstance(value, list) else []
