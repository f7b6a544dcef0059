"""A cluster that a script called ``kubectl`` stands for: it keeps what it is given in a folder."""

import json
import stat
import sys
from base64 import b64encode
from pathlib import Path

KUBECTL = f"""#!{sys.executable}
import base64, json, pathlib, sys
folder = pathlib.Path(__file__).parent
with (folder / "calls").open("a") as calls:
    print(*sys.argv[1:], file=calls)
match sys.argv[1:]:
    case ["get", kind, name, "-n", namespace, *_]:
        path = folder / f"{{kind}}.{{namespace}}.{{name}}"
        print(path.read_text() if path.exists() else "", end="")
    case ["create", "-f", "-"]:
        manifest = json.load(sys.stdin)
        metadata = manifest["metadata"]
        path = folder / f"secret.{{metadata['namespace']}}.{{metadata['name']}}"
        if path.exists():
            sys.exit("AlreadyExists")
        values = manifest["stringData"].items()
        data = {{key: base64.b64encode(value.encode()).decode() for key, value in values}}
        path.write_text(json.dumps({{"data": data}}))
    case ["rollout", "status", *_]:
        pass
    case ["port-forward", *_]:
        print("Forwarding from 127.0.0.1:40123 -> 4200", flush=True)
        sys.stdin.read()
    case _:
        sys.exit("unknown command")
"""


class Cluster:
    """Makes the script, and says and shows what there is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "kubectl"
        program.write_text(KUBECTL)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def add(self, kind: str, namespace: str, name: str, text: str = "{}") -> None:
        (self.folder / f"{kind}.{namespace}.{name}").write_text(text)

    def add_secret(self, namespace: str, name: str, key: str, value: str) -> None:
        data = {key: b64encode(value.encode()).decode()}
        self.add("secret", namespace, name, json.dumps({"data": data}))

    @property
    def calls(self) -> str:
        return (self.folder / "calls").read_text()
