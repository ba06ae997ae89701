"""Recipes of the models in the wheel: data, training, figures, export. Nothing at run time needs them."""
