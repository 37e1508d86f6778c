"""What is inside a .tflite: its operators, and whether plain LiteRT can run them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bridge.errors import ArtifactError

_CUSTOM = "custom "


def operators(path: Path) -> Counter[str]:
    """How often each operator occurs; custom ones as ``custom FlexErf``, for example.

    Read from the file itself: an interpreter refuses the files that this is most needed for.

    Raises:
        ArtifactError: The file is missing, or is not a .tflite.
    """
    from ai_edge_litert import schema_py_generated as schema

    if not Path(path).is_file():
        raise ArtifactError(f"no .tflite at {path}")
    content = Path(path).read_bytes()
    if not schema.Model.ModelBufferHasIdentifier(content, 0):
        raise ArtifactError(f"{path} is not a .tflite file")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    builtin = {
        value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()
    }
    names = []
    for code in model.operatorCodes:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = (code.customCode or b"").decode()
        names.append(_CUSTOM + custom if custom else builtin[number])
    return Counter(names[op.opcodeIndex] for graph in model.subgraphs for op in graph.operators)


def foreign_operators(path: Path) -> list[str]:
    """Operators that plain LiteRT lacks: TensorFlow's (Flex) and custom ones."""
    return sorted(name for name in operators(path) if name.startswith(_CUSTOM))
