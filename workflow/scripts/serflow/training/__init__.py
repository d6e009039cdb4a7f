"""The one training set-up of all networks: Hugging Face Trainer, resumable and exact."""
