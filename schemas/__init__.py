"""What a sample, a recipe, a draw, a shard and a manifest are: one definition each."""
