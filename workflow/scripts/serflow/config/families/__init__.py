"""One settings type per system family."""
