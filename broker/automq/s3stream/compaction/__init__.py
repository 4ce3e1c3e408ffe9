"""Objects rewritten: many small ones become few, large streams get objects of their own. Bytes of records stay."""
