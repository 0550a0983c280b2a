"""The op-kind table: how each kind of op runs forwards and is sent back."""
