"""The `hola` command: everything a person or a script does with HOLA."""
