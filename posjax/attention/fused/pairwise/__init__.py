"""A bias of pairs of positions inside a kernel: an encoding's own `bias`, traced and cut into what a kernel can run.

`program` says what runs outside a kernel and what inside, `flatten` makes a flat list of operations of a traced
function, and `stages` runs them on a tile, there and back.
"""
