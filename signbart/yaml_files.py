"""YAML as all files of this project are read: nothing twice, and nothing larger than it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

# Characters and values, every alias counted as what it stands for. A layout of
# one's own with 543 landmarks has some 20,000; 463 bytes of aliases can have 10^9.
_MOST = 1_000_000
_LONGEST = 16 << 20  # bytes of a file
_DEEPEST = 100  # brackets within each other; PyYAML looks at all that are open for each further one


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error; PyYAML's own takes the last silently."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._sizes: dict[yaml.Node, int] = {}

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        if self.flow_level >= _DEEPEST:
            problem = f"it nests too deep, more than {_DEEPEST} brackets"
            raise yaml.scanner.ScannerError(None, None, problem, self.get_mark())
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if not is_alias:
            self._sizes[node] = self._size(node)
        # An alias inside what it stands for has no size yet, and no end.
        if self._sizes.get(node, _MOST + 1) > _MOST:
            problem = f"its aliases make more than {_MOST:,} characters of it; write it out"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return node

    def _size(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1 + len(node.value)
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        return 1 + sum(self._sizes[part] for part in parts)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"key '{key.value}' stands more than once"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str) -> Any:
    """Plain containers out of YAML.

    Raises:
        yaml.YAMLError: It is none, says a key twice, nests too deep, has a date that does not exist
            or a number of thousands of digits, or aliases make far more of it than is there.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError("it nests too deep") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # its constructors' own
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None


def read_yaml(path: Path) -> Any:
    """Plain containers out of a file in UTF-8.

    Raises:
        yaml.YAMLError: See `parse_yaml`; or it is far longer than any configuration.
        OSError: It cannot be read.
    """
    if path.stat().st_size > _LONGEST:
        raise yaml.YAMLError(f"it has {path.stat().st_size:,} bytes, over {_LONGEST:,}")
    try:
        return parse_yaml(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise yaml.YAMLError(f"byte {error.start} is no UTF-8") from None
