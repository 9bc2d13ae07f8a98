"""The classifiers: ideas from differential equations, their baselines and their null models.

`catalog` lists them; a module is imported when one of its models is first used.
"""
