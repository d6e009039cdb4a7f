"""The typed description of `config.yaml` and `studies/*.yaml`."""
