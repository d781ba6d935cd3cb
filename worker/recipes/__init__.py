"""Recipes: the engine calls that compute an item's result, in one round or in several."""
