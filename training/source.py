"""A digest of a network's source, which tells whether a network was edited.

The digest is of the code of the network's class, and of what that code names in the same file.
Comments, docstrings and blank lines do not change it.
"""

import ast
import functools
import hashlib
import inspect

from torch import nn


@functools.cache
def network_digest(network: type[nn.Module]) -> str:
    """The digest (16 hexadecimal digits) of a network's source; "unknown" if there is no file."""
    try:
        tree = ast.parse(inspect.getsource(inspect.getmodule(network) or network))
    except (OSError, TypeError, SyntaxError):  # a class that was typed into a notebook
        return "unknown"
    defined = {name: node for node in tree.body for name in _names(node)}
    wanted, found = [network.__name__], {}
    while wanted:
        name = wanted.pop()
        if name in defined and name not in found:
            found[name] = _without_docstrings(defined[name])
            wanted += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)]
    code = "\n".join(ast.unparse(found[name]) for name in sorted(found))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def _names(node: ast.stmt) -> list[str]:
    """The names that a statement at the top level of a file defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def _without_docstrings(tree: ast.stmt) -> ast.stmt:
    """A statement whose classes and functions have no docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree
