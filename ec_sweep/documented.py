"""What classes say of their attributes: the string below each of them."""

import ast
import inspect
import itertools
import textwrap


def attributes(of: type) -> dict[str, str]:
    """Return the docstring of each attribute of a class that has one, in one line, by its name."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for before, after in itertools.pairwise(definition.body):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            match after:
                case ast.Expr(ast.Constant(str(text))):
                    found[before.target.id] = " ".join(text.split()).replace("``", "`")
    return found
