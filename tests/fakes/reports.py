"""What must hold of every account of a catalogue file."""


def adds_up(table):
    """Whether every row of a table came to one end."""
    return table.read == table.taken + table.rejected + table.quarantined + table.skipped
