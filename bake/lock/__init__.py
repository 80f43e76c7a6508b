"""The lock: every package, component and collection that a recipe's bakes may take, by digest."""
