"""Getting open corpora onto this machine: addresses, transfer, verification, unpacking."""
